//! Runs of bits in arrays of words. Bit `i` is bit `i % 64` of word `i / 64`.
