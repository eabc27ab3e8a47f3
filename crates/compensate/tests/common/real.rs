//! Real feature drift: a fine-tuned MiniLM, 15 old and 15 new WordNet classes, `assets/drift.safetensors`.

use std::path::Path;
use std::sync::Arc;

use residua_compensate::classify::{LdaOptions, Metric, NcmOptions, QdaOptions, Ridge};
use residua_compensate::source::{SafetensorsSource, TensorNames};
use residua_compensate::*;
use residua_format::file::Checkpoint;
use residua_memory::Budget;

/// Labels of old classes are below.
pub const OLD_CLASSES: u32 = 15;

/// The feature dimension.
pub const DIM: usize = 384;

/// One fine-tune, `full` or `lora`, with the evaluation protocol: old classes' statistics are moved by a compensator that
/// is fitted on the new task's features, new classes' are collected after the task, and test features are classified.
pub struct Drift {
    file: Arc<Checkpoint>,
    pub variant: &'static str,
    pub budget: Budget,
}

/// Percent of all, old and new test samples.
pub type Accuracy = [f64; 3];

/// Samples in memory, row-major.
pub struct Samples {
    pub before: Vec<f32>,
    pub after: Vec<f32>,
    pub labels: Vec<u32>,
}

impl Samples {
    /// These samples, by number.
    pub fn select(&self, keep: impl Fn(usize) -> bool) -> Self {
        let rows: Vec<usize> = (0..self.labels.len()).filter(|&row| keep(row)).collect();
        let of = |all: &[f32]| -> Vec<f32> {
            rows.iter()
                .flat_map(|row| all.get(row * DIM..(row + 1) * DIM).unwrap_or_default())
                .copied()
                .collect()
        };
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Self { before: of(&self.before), after: of(&self.after), labels }
    }
}

impl Drift {
    pub fn open(variant: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/drift.safetensors");
        Self { file: Arc::new(Checkpoint::open(&path).unwrap()), variant, budget: Budget::new(256 << 20) }
    }

    /// Tensors of the file; `…after` is the variant's.
    pub fn source(&self, before: &str, after: Option<&str>, labels: Option<&str>) -> SafetensorsSource {
        let full = |name: &str| {
            if name.ends_with("after") { format!("{name}_{}", self.variant) } else { name.into() }
        };
        let mut names = TensorNames::features(full(before));
        (names.after, names.labels) = (after.map(full), labels.map(full));
        SafetensorsSource::new(&self.file, &names).unwrap()
    }

    /// The same tensors in memory.
    pub fn samples(&self, before: &str, after: Option<&str>, labels: &str) -> Samples {
        let mut source = self.source(before, after, Some(labels));
        let mut block = FeatureBlock::new(DIM);
        while source.read(1000, &mut block).unwrap() > 0 {}
        let after = after.map_or_else(Vec::new, |_| block.after().unwrap().to_vec());
        Samples { before: block.before().to_vec(), after, labels: block.labels().unwrap().to_vec() }
    }

    pub fn statistics(&self, features: &str, labels: &str) -> ClassStatistics {
        let mut source = self.source(features, None, Some(labels));
        ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &self.budget).unwrap()
    }

    /// Old classes before the task.
    pub fn stale(&self) -> ClassStatistics {
        self.statistics("old_before", "y_old")
    }

    /// Old classes after the task.
    pub fn truth(&self) -> ClassStatistics {
        self.statistics("old_after", "y_old")
    }

    /// New classes.
    pub fn new_classes(&self) -> ClassStatistics {
        self.statistics("cur_after", "y_cur")
    }

    /// Old classes, moved by a method.
    pub fn moved(&self, method: &dyn Method) -> ClassStatistics {
        let fitted =
            method.fit(&mut self.source("cur_before", Some("cur_after"), None), &self.budget).unwrap();
        fitted.apply(&self.stale(), &self.budget).unwrap()
    }

    /// NCM, LDA with a shared covariance, LDA shrink 0.1, QDA shrink 0.1.
    pub fn row(&self, name: &str, old: &ClassStatistics) -> [Accuracy; 4] {
        let all = old.merge(&self.new_classes(), &self.budget).unwrap();
        let budget = &self.budget;
        let ncm = NcmOptions::default().with_metric(Metric::Euclidean);
        let lda = LdaOptions::default().with_ridge(Ridge::relative(1e-6));
        let classifiers: [Box<dyn Classifier>; 4] = [
            Box::new(Ncm::new(&all, ncm, budget).unwrap()),
            Box::new(Lda::new(&all, lda, budget).unwrap()),
            Box::new(Lda::new(&all, LdaOptions::default(), budget).unwrap()),
            Box::new(Qda::new(&all, QdaOptions::default(), budget).unwrap()),
        ];
        let row = classifiers.map(|classifier| self.accuracy(&*classifier));
        let text: Vec<_> = row.iter().map(|[all, old, new]| format!("{all:.1}/{old:.1}/{new:.1}")).collect();
        println!("{:5} {name:24} {}", self.variant, text.join("  "));
        row
    }

    /// Of a classifier on the test features.
    pub fn accuracy(&self, classifier: &dyn Classifier) -> Accuracy {
        let mut test = self.source("test_after", None, Some("y_test"));
        let predicted = classifier.predict_source(&mut test, &self.budget).unwrap();
        let labels = self.samples("test_after", None, "y_test").labels;
        let share = |keep: &dyn Fn(u32) -> bool| {
            let kept = labels.iter().zip(&predicted).filter(|(label, _)| keep(**label));
            let (right, all) = kept.fold((0, 0), |(right, all), (a, b)| (right + u32::from(a == b), all + 1));
            100.0 * f64::from(right) / f64::from(all)
        };
        [share(&|_| true), share(&|label| label < OLD_CLASSES), share(&|label| label >= OLD_CLASSES)]
    }
}
