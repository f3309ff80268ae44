//! The lock under real threads. Apart from it, because `tests/loom` compiles the lock under a model checker.

use crate::vm::Lock;

/// Would catch a lock that lets two in, or a sleeper that is never woken (the test would hang).
#[test]
fn counts_without_loss() {
    static COUNT: Lock<u64> = Lock::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    *COUNT.lock() += 1;
                }
            });
        }
    });
    assert_eq!(*COUNT.lock(), 160_000);
}

#[test]
fn try_lock_refuses_while_held() {
    let lock = Lock::new(());
    let held = lock.lock();
    // Twice: a refusal must not let go of what another holds.
    assert!(lock.try_lock().is_none());
    assert!(lock.try_lock().is_none());
    drop(held);
    assert!(lock.try_lock().is_some());
}
