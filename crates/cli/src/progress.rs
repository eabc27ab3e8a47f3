//! A progress bar with rate and time left, on stderr and only at a terminal.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residua::Progress;

use crate::interrupt::{self, Watch};

use crate::escape;

const TEMPLATE: &str =
    "{prefix:>12} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg:.dim}";
/// The same for work in steps.
const STEPS: &str = "{prefix:>12} {bar:30} {pos}/{len} eta {eta} {wide_msg:.dim}";

/// Shows the progress of a job.
#[derive(Debug)]
pub(crate) struct Bar {
    quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
    /// Set while a job runs that polls [`stop`](Progress::stop).
    watch: Mutex<Option<Watch>>,
}

impl Bar {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, bar: Mutex::new(None), watch: Mutex::new(None) }
    }

    fn with(&self, work: impl FnOnce(&ProgressBar)) {
        if let Ok(bar) = self.bar.lock()
            && let Some(bar) = &*bar
        {
            work(bar);
        }
    }

    /// Like [`begin`](Progress::begin), but counts steps instead of bytes.
    pub(crate) fn begin_steps(&self, what: &str, steps: usize) {
        self.start(STEPS, what, steps as u64);
    }

    fn start(&self, template: &str, what: &str, total: u64) {
        self.end();
        if self.quiet {
            return;
        }
        // This target draws only at a terminal.
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
        // A hidden bar would keep a message for each of many small tensors.
        if bar.is_hidden() {
            return;
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some(bar);
        }
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total_bytes: u64) {
        self.start(TEMPLATE, what, total_bytes);
        if let Ok(mut watch) = self.watch.lock() {
            *watch = Some(Watch::new());
        }
    }

    fn tensor(&self, name: &str) {
        self.with(|bar| bar.set_message(escape::line(name).into_owned()));
    }

    fn advance(&self, bytes: u64) {
        self.with(|bar| bar.inc(bytes));
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }

    fn end(&self) {
        if let Ok(mut watch) = self.watch.lock() {
            watch.take();
        }
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}
