// A larger batch: what a thread reads of x and adds up is four neighbouring values of the batch.
alias Cell = vec4<f32>;
