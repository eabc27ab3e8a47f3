//! Fortran order.

/// Row-major indices of the elements of an array, in Fortran order: the first index fastest. Does not end.
#[derive(Debug, Clone)]
pub(in crate::file) struct FortranOrder {
    shape: Vec<usize>,
    strides: Vec<usize>,
    indices: Vec<usize>,
    place: usize,
}

impl FortranOrder {
    /// For an array that has elements.
    pub(in crate::file) fn new(shape: &[usize]) -> Self {
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        Self { shape: shape.to_vec(), strides, indices: vec![0; shape.len()], place: 0 }
    }
}

impl Iterator for FortranOrder {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let here = self.place;
        for ((index, &size), stride) in self.indices.iter_mut().zip(&self.shape).zip(&self.strides) {
            *index += 1;
            if *index < size {
                self.place += stride;
                break;
            }
            self.place -= (size - 1) * stride;
            *index = 0;
        }
        Some(here)
    }
}

#[cfg(test)]
mod tests {
    use super::FortranOrder;

    #[test]
    fn the_first_index_is_the_fastest() {
        let order = |shape: &[usize], count| FortranOrder::new(shape).take(count).collect::<Vec<_>>();
        assert_eq!(order(&[2, 3], 6), [0, 3, 1, 4, 2, 5]);
        assert_eq!(order(&[4], 4), [0, 1, 2, 3]);
        assert_eq!(order(&[], 1), [0]);
        assert_eq!(order(&[2, 1, 2], 4), [0, 2, 1, 3]);
        assert_eq!(order(&[2, 3, 2], 12), [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]);
    }
}
