//! Long rows of arena calls against a shadow: blocks do not overlap, are aligned, keep their contents until their scope
//! ends, and scopes nest.

mod arena_program;

use arena_program::{Call, Keep, OfArena, Rows, run};
use proptest::prelude::*;

fn rows() -> impl Strategy<Value = Rows> {
    prop_oneof![
        any::<bool>().prop_map(|panics| Rows::Clone { panics }),
        Just(Rows::Fill),
        Just(Rows::Default),
        any::<bool>().prop_map(|inner| Rows::With { inner }),
        any::<bool>().prop_map(|lies| Rows::Exact { lies }),
    ]
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::UntilScopeEnds), Just(Keep::Drop), Just(Keep::Leak)]
}

fn of_arena() -> impl Strategy<Value = OfArena> {
    let len = || prop_oneof![8 => 0u16..100, 1 => any::<u16>()];
    prop_oneof![
        3 => any::<bool>().prop_map(|keep_all| OfArena::Reset { keep_all }),
        1 => Just(OfArena::Trim),
        1 => any::<u32>().prop_map(OfArena::Limit),
        2 => len().prop_map(OfArena::Offsets),
        2 => (len(), len(), any::<bool>())
            .prop_map(|(len, more, freeze)| OfArena::Rooted { len, more, freeze }),
        1 => (any::<u8>(), len()).prop_map(|(guards, len)| OfArena::Pool { guards, len }),
        1 => len().prop_map(OfArena::Mapped),
    ]
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let size = || prop_oneof![8 => 0u32..200, 2 => 0u32..10_000, 1 => any::<u32>()];
    let len = || prop_oneof![8 => 0u16..100, 1 => 0u16..5000];
    let call = prop_oneof![
        6 => any::<u64>().prop_map(Call::Value),
        4 => any::<u8>().prop_map(Call::Pair),
        2 => any::<bool>().prop_map(|inner| Call::With { inner }),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(fails, inner)| Call::TryWith { fails, inner }),
        3 => len().prop_map(Call::Copy),
        3 => len().prop_map(Call::Text),
        3 => (len(), any::<bool>()).prop_map(|(len, inner)| Call::Iterate { len, inner }),
        2 => len().prop_map(Call::Format),
        4 => (len(), rows()).prop_map(|(len, how)| Call::Rows { len, how }),
        2 => (len(), len()).prop_map(|(len, nul)| Call::CText { len, nul }),
        3 => (len(), keep()).prop_map(|(len, keep)| Call::Own { len, keep }),
        5 => (size(), any::<u8>()).prop_map(|(size, align)| Call::Layout { size, align }),
        2 => (size(), any::<u8>()).prop_map(|(size, align)| Call::Zeroed { size, align }),
        4 => (any::<u8>(), size()).prop_map(|(block, by)| Call::Grow { block, by }),
        3 => (any::<u8>(), any::<u32>()).prop_map(|(block, to)| Call::Shrink { block, to }),
        4 => any::<u8>().prop_map(|block| Call::Free { block }),
        2 => (len(), prop::bool::weighted(0.2)).prop_map(|(len, forget)| Call::Batch { len, forget }),
        1 => Just(Call::Overflow),
        1 => Just(Call::TooMuch),
        4 => any::<bool>().prop_map(|guard| Call::Enter { guard }),
        3 => Just(Call::Leave),
        1 => Just(Call::Panic),
        4 => of_arena().prop_map(Call::Arena),
        1 => Just(Call::Checkpoint),
        1 => Just(Call::Rewind),
    ];
    prop::collection::vec(call, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_is_there_is_what_was_put(calls in calls()) {
        run(&calls);
    }
}
