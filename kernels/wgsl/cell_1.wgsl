// A batch of 1: what a thread reads of x and adds up is one value.
alias Cell = f32;
