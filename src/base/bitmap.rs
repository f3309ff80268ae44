//! Runs of bits in arrays of words. Bit `i` is bit `i % 64` of word `i / 64`.

/// `N * 64` bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Bitmap<const N: usize>(pub(crate) [u64; N]);

impl<const N: usize> Bitmap<N> {
    pub(crate) const BITS: usize = N * 64;

    pub(crate) const fn zero() -> Self {
        Bitmap([0; N])
    }

    pub(crate) fn get(&self, bit: usize) -> bool {
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// Sets (or clears) `len` bits from `first` on.
    pub(crate) fn fill(&mut self, first: usize, len: usize, value: bool) {
        debug_assert!(first + len <= Self::BITS);
        let mut bit = first;
        let end = first + len;
        while bit < end {
            let in_word = (64 - bit % 64).min(end - bit);
            let mask = ones(in_word) << (bit % 64);
            if value {
                self.0[bit / 64] |= mask;
            } else {
                self.0[bit / 64] &= !mask;
            }
            bit += in_word;
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The bits that are set in both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Bitmap(core::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// The first run of set bits at or after `from`, as first bit and length.
    pub(crate) fn next_run(&self, from: usize) -> Option<(usize, usize)> {
        let first = self.next(from, 0)?;
        let end = self.next(first, u64::MAX).unwrap_or(Self::BITS);
        Some((first, end - first))
    }

    /// The first bit at or after `from` that is set after the words were xored with `flip`.
    fn next(&self, from: usize, flip: u64) -> Option<usize> {
        if from >= Self::BITS {
            return None;
        }
        let mut word = from / 64;
        let mut bits = (self.0[word] ^ flip) & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            if word == N {
                return None;
            }
            bits = self.0[word] ^ flip;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// The first run of at least `len` set bits.
    pub(crate) fn find_run(&self, len: usize) -> Option<usize> {
        let mut from = 0;
        while let Some((first, run)) = self.next_run(from) {
            if run >= len {
                return Some(first);
            }
            from = first + run;
        }
        None
    }

    /// The length of the longest run of set bits.
    pub(crate) fn longest_run(&self) -> usize {
        let mut longest = 0;
        let mut from = 0;
        while let Some((first, run)) = self.next_run(from) {
            longest = longest.max(run);
            from = first + run;
        }
        longest
    }
}

/// `n` ones from bit 0 on, `n` at most 64.
#[inline]
pub(crate) const fn ones(n: usize) -> u64 {
    debug_assert!(n <= 64);
    if n == 64 { u64::MAX } else { (1 << n) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same questions, answered bit by bit.
    fn runs_slowly(bits: &[bool]) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (i, _) in bits.iter().enumerate().filter(|(_, set)| **set) {
            match runs.last_mut() {
                Some((first, len)) if *first + *len == i => *len += 1,
                _ => runs.push((i, 1)),
            }
        }
        runs
    }

    /// Would catch a run cut at a word's edge, and a mask that is one bit off.
    #[test]
    fn agrees_with_a_row_of_bools() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..2_000 {
            let mut map = Bitmap::<4>::zero();
            let mut bits = [false; 256];
            for _ in 0..12 {
                let first = next(256);
                let len = next(256 - first + 1);
                let value = next(2) == 1;
                map.fill(first, len, value);
                bits[first..first + len].fill(value);
            }
            let runs = runs_slowly(&bits);
            assert_eq!(map.longest_run(), runs.iter().map(|run| run.1).max().unwrap_or(0));
            assert_eq!(map.count(), bits.iter().filter(|set| **set).count());
            let want = next(100) + 1;
            assert_eq!(map.find_run(want), runs.iter().find(|run| run.1 >= want).map(|run| run.0));
            let mut found = Vec::new();
            let mut from = 0;
            while let Some((first, len)) = map.next_run(from) {
                found.push((first, len));
                from = first + len;
            }
            assert_eq!(found, runs);
        }
    }
}
