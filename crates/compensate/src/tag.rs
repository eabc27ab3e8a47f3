//! Which model's features statistics are of, and which samples are in them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::source::Fingerprint;
use crate::{CompensateError, Result};

/// What class statistics know about their feature space: the model that made the features, and the arrays of features
/// that were seen in this space or in one that they have left.
///
/// A model is known by the name that the user gives it, an array by a fingerprint of its numbers. Statistics that were
/// made of arrays get their tag by themselves. It finds mistakes that are certain, such as a merge with statistics of an
/// older model. Where it knows nothing, such as in files of older versions, it allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tag {
    /// The user's name of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The tasks that the statistics went through since they were collected.
    #[serde(skip_serializing_if = "is_zero")]
    task: u64,
    /// Arrays whose samples are in the statistics.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    samples: BTreeSet<String>,
    /// Arrays of features of this model.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    here: BTreeSet<String>,
    /// Arrays of features of earlier models.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    left: BTreeSet<String>,
    /// Names of earlier models.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    models: BTreeSet<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn wrong(problem: impl Into<String>) -> CompensateError {
    CompensateError::Space { problem: problem.into() }
}

/// Whether two sets have something in common.
fn meet(a: &BTreeSet<String>, b: &BTreeSet<String>) -> bool {
    !a.is_disjoint(b)
}

impl Tag {
    /// Of statistics that are collected from arrays with these fingerprints.
    pub fn collected(arrays: impl IntoIterator<Item = String>) -> Self {
        let samples: BTreeSet<String> = arrays.into_iter().collect();
        Self { here: samples.clone(), samples, ..Self::default() }
    }

    /// With the user's name of the model.
    #[must_use]
    pub fn with_model(self, model: Option<String>) -> Self {
        Self { model, ..self }
    }

    /// The user's name of the model, if it is known.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The tasks that the statistics went through since they were collected.
    pub fn task(&self) -> u64 {
        self.task
    }

    /// Fingerprints of the arrays whose samples are in the statistics.
    pub fn samples(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(String::as_str)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of the same statistics after a task with these pairs, in the space of a model with this name.
    ///
    /// # Errors
    /// When the pairs cannot be of this task: their features before it are of an earlier model, or their features after it
    /// of the model before it.
    pub fn moved(&self, pairs: &[Fingerprint], model: Option<&str>) -> Result<Self> {
        // Pairs that do not move say nothing about the model.
        let moving =
            || pairs.iter().filter(|pair| pair.after.as_ref().is_some_and(|after| *after != pair.before));
        let known =
            |set: &BTreeSet<String>, array: Option<&String>| array.is_some_and(|array| set.contains(array));
        if moving().any(|pair| known(&self.left, Some(&pair.before))) {
            return Err(wrong(
                "the features before the task are of an earlier model than the statistics: the statistics may have gone \
                 through this task already",
            ));
        }
        if moving()
            .any(|pair| known(&self.here, pair.after.as_ref()) || known(&self.left, pair.after.as_ref()))
        {
            return Err(wrong(
                "the features after the task are of the model before it or an earlier one: before and after may be swapped",
            ));
        }
        if model.is_some_and(|model| self.models.contains(model) || self.model.as_deref() == Some(model)) {
            let model = model.unwrap_or_default();
            return Err(wrong(format!(
                "the statistics have been in the space of model {model:?} before this task"
            )));
        }
        let mut new = self.clone();
        new.task += 1;
        new.left.extend(std::mem::take(&mut new.here));
        new.models.extend(new.model.take());
        new.model = model.map(str::to_owned);
        for pair in moving() {
            new.left.insert(pair.before.clone());
            new.here.extend(pair.after.clone());
        }
        Ok(new)
    }

    /// Of the statistics of both tags together.
    ///
    /// # Errors
    /// When both have the same samples, or they are of different models.
    pub fn merge(&self, other: &Self) -> Result<Self> {
        if meet(&self.samples, &other.samples) {
            return Err(wrong("both have the samples of the same array: they would count twice"));
        }
        if meet(&self.here, &other.left) || meet(&self.left, &other.here) {
            return Err(wrong(
                "they are of different models: some were moved by a task, the others were not",
            ));
        }
        if let (Some(one), Some(two)) = (&self.model, &other.model)
            && one != two
        {
            return Err(wrong(format!("they are of different models, {one:?} and {two:?}")));
        }
        for (model, models) in [(&self.model, &other.models), (&other.model, &self.models)] {
            if let Some(model) = model.as_ref().filter(|model| models.contains(*model)) {
                return Err(wrong(format!(
                    "some are of model {model:?}, and the others have left its space"
                )));
            }
        }
        let mut new = self.clone();
        new.model = new.model.or_else(|| other.model.clone());
        new.task = new.task.max(other.task);
        new.samples.extend(other.samples.iter().cloned());
        new.here.extend(other.here.iter().cloned());
        new.left.extend(other.left.iter().cloned());
        new.models.extend(other.models.iter().cloned());
        Ok(new)
    }

    /// The same space without a word about samples and arrays: of statistics that are in several spaces.
    pub(crate) fn samples_alone(&self) -> Self {
        Self { task: self.task, samples: self.samples.clone(), ..Self::default() }
    }

    /// With the samples and arrays of a task that this space is after.
    pub(crate) fn with_task(mut self, arrays: impl IntoIterator<Item = String>) -> Self {
        for array in arrays {
            self.samples.insert(array.clone());
            self.here.insert(array);
        }
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(before: &str, after: &str) -> Fingerprint {
        Fingerprint { before: before.into(), after: Some(after.into()) }
    }

    fn collected(name: &str) -> Tag {
        Tag::collected([name.to_owned()])
    }

    fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn mistakes_that_are_certain_are_refused() {
        let (stale, pairs) = (collected("old"), [pair("new before", "new after")]);
        let moved = stale.moved(&pairs, Some("tuned")).unwrap();
        assert_eq!((moved.task(), moved.model()), (1, Some("tuned")));
        moved.merge(&collected("new after")).unwrap();
        assert!(problem(moved.merge(&stale)).contains("twice"));
        assert!(problem(moved.merge(&collected("new before"))).contains("different models"));
        assert!(problem(moved.moved(&pairs, None)).contains("through this task already"));
        assert!(problem(moved.moved(&[pair("x", "new after")], None)).contains("swapped"));
        assert!(problem(stale.moved(&[pair("x", "old")], None)).contains("swapped"));
        assert!(problem(moved.moved(&[pair("y", "z")], Some("tuned"))).contains("tuned"));
        let named = |model: &str| collected(model).with_model(Some(model.to_owned()));
        assert!(problem(moved.merge(&named("other"))).contains("\"tuned\" and \"other\""));
        let moved = named("first").moved(&pairs, None).unwrap();
        assert!(
            problem(moved.merge(&collected("x").with_model(Some("first".into())))).contains("left its space")
        );
    }

    #[test]
    fn what_is_unknown_or_does_not_move_is_allowed() {
        let stale = collected("old");
        assert!(Tag::default().merge(&Tag::default()).unwrap().is_empty());
        stale.merge(&Tag::default()).unwrap();
        let still = stale.moved(&[pair("same", "same")], None).unwrap();
        still.moved(&[pair("same", "same")], None).unwrap();
    }

    proptest! {
        /// A merge does not depend on the order, and its text gives the same tag.
        #[test]
        fn merging_commutes(a in "[a-d]{0,3}", b in "[e-h]{0,3}", task in 0u64..3) {
            let tag = |text: &str| Tag { task, ..Tag::collected(text.chars().map(String::from)) };
            let (a, b) = (tag(&a), tag(&b));
            let merged = a.merge(&b).unwrap();
            prop_assert_eq!(&merged, &b.merge(&a).unwrap());
            let text = serde_json::to_string(&merged).unwrap();
            prop_assert_eq!(serde_json::from_str::<Tag>(&text).unwrap(), merged);
        }
    }
}
