// A larger batch: a thread reads and adds up four neighbouring values of the batch at a time.
alias Cell = vec4<f32>;
