//! `residua calibrate TENSOR=ACTIVATIONS.. -o FILE`.

use std::path::PathBuf;
use std::time::Instant;

use residua::memory::process;
use residua::split::{
    ActivationsAt, CalibrateOptions, CalibrateReport, CalibratedTensor, LayerInputs, Output, Statistic,
    calibrate,
};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::arrays::ArrayRef;
use crate::failure::Result;
use crate::output::{bytes, count, facts, print, print_json, print_table, table};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua calibrate layer.weight=inputs.npy -o calibration.safetensors --second-moments
  residua split model.safetensors -o split.safetensors --calibration calibration.safetensors

Activations are the inputs of a layer, [rows, in_features], of any numeric type: a .npy file, or a tensor of a
.safetensors file, FILE.safetensors:NAME. NAME may be left out if it is TENSOR. Several arrays of one tensor count as
one, and several tensors may have the same array. Take inputs of the kind that the model will see. Second moments need at
least as many rows as a block has features; a few thousand are better.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The weight of a layer and stored inputs of the layer
    #[arg(required = true, value_name = "TENSOR=ACTIVATIONS", value_parser = layer_inputs)]
    layers: Vec<LayerInputs>,
    /// Where to write the calibration; replaced only when the run succeeded
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Store second moments instead of mean squares: split then makes up for what each column loses
    #[arg(long)]
    second_moments: bool,
    /// Features of a block of second moments, a multiple of 128 [default: the largest blocks that the budget allows
    /// here and in split]
    #[arg(long, value_name = "N", requires = "second_moments")]
    block: Option<usize>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

fn layer_inputs(text: &str) -> Result<LayerInputs, String> {
    let Some((tensor, file)) =
        text.split_once('=').filter(|(tensor, file)| !tensor.is_empty() && !file.is_empty())
    else {
        return Err("write TENSOR=ACTIVATIONS, such as layer.weight=inputs.npy".into());
    };
    let array: ArrayRef = file.parse().unwrap_or_else(|never| match never {});
    let path = array.path().to_owned();
    let at = match array.is_npy() {
        true => ActivationsAt::Npy(path),
        false => ActivationsAt::Tensor(path, array.name().unwrap_or(tensor).to_owned()),
    };
    Ok(LayerInputs::new(tensor, at))
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    report: &'a CalibrateReport,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let statistic = match args.second_moments {
        true => Statistic::SecondMoments { block: args.block },
        false => Statistic::MeanSquares,
    };
    let options = CalibrateOptions::default().statistic(statistic);
    let start = Instant::now();
    let report = calibrate(&args.layers, Output(&args.output), &options, &budget, &args.run.progress())?;
    let seconds = start.elapsed().as_secs_f64();
    let (peak_memory_bytes, memory_budget_bytes) = (process::peak_rss(), budget.limit());
    if args.run.json {
        return print_json(&Done { report: &report, seconds, peak_memory_bytes, memory_budget_bytes });
    }
    let rows = report
        .tensors
        .iter()
        .map(|tensor| [tensor.name.clone(), count(tensor.rows), count(tensor.features as u64), what(tensor)]);
    print_table(|| table(["tensor", "rows", "features", "content"]), rows)?;
    let mut rows = vec![("took", format!("{seconds:.1} s"))];
    if let Some(peak) = peak_memory_bytes {
        rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(memory_budget_bytes))));
    }
    rows.push(("wrote", format!("{}, {}", args.output.display(), bytes(report.output_bytes))));
    print(facts(&rows))
}

fn what(tensor: &CalibratedTensor) -> String {
    match tensor.block {
        None => "mean squares".into(),
        Some(block) if block == tensor.features => "second moments".into(),
        Some(block) => format!("second moments in blocks of {block}"),
    }
}
