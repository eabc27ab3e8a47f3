// A batch of 1: a thread reads and adds up one value of x at a time.
alias Cell = f32;
