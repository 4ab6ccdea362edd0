//! Bounds the bytes, or other units, that the node holds for all clients together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound on bytes held for many callers. Cheap to clone; clones share the bound.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    held: AtomicUsize,
    max: usize,
    /// The budget of which this is a share.
    whole: Option<ByteBudget>,
}

impl ByteBudget {
    /// At most `max` bytes at a time.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared { held: AtomicUsize::new(0), max, whole: None }))
    }

    /// A budget without a bound, where no listener has set one.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(usize::MAX)
    }

    /// A share of at most `max` bytes for one caller: bytes count against both.
    #[must_use]
    pub fn share(&self, max: usize) -> Self {
        Self(Arc::new(Shared { held: AtomicUsize::new(0), max, whole: Some(self.clone()) }))
    }

    /// The bytes held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let shared = &*self.0;
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= shared.max);
        if shared.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        if shared.whole.as_ref().is_some_and(|whole| !whole.take(bytes)) {
            shared.held.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Replaces `held`, bytes of this budget, by `bytes`; returns `false` and changes nothing if it has no room for them.
    #[must_use]
    pub fn replace(&self, held: &mut usize, bytes: usize) -> bool {
        if let Some(less) = held.checked_sub(bytes) {
            if less > 0 {
                self.give_back(less);
            }
        } else if !self.take(bytes - *held) {
            return false;
        }
        *held = bytes;
        true
    }

    fn give_back(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.give_back(bytes);
        }
    }
}

/// The bytes of a budget that one caller holds; released when dropped.
#[derive(Debug)]
pub struct HeldBytes {
    budget: ByteBudget,
    bytes: usize,
}

impl HeldBytes {
    /// Holds nothing of `budget` yet.
    #[must_use]
    pub const fn none(budget: ByteBudget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Reserves `bytes` more; returns `false` and reserves nothing if the budget has no room for them.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.bytes.checked_add(bytes).is_some_and(|sum| self.budget.replace(&mut self.bytes, sum))
    }

    /// Replaces the reservation by `bytes`; returns `false` and changes nothing if the budget has no room for them.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        self.budget.replace(&mut self.bytes, bytes)
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        // Most callers hold nothing at their end, and the counters are shared by all.
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_bounded_by_itself_and_by_the_whole_and_gives_back_to_both() {
        let whole = ByteBudget::new(100);
        let mut first = HeldBytes::none(whole.share(60));
        let mut second = HeldBytes::none(whole.share(60));
        assert!(first.grow(60));
        assert!(!first.grow(1), "the share is used up");
        assert!(!second.grow(41), "the whole is used up");
        assert!(second.grow(40));
        assert_eq!(whole.held(), 100);
        drop(first);
        assert_eq!(whole.held(), 40);
        assert!(second.grow(20));
        assert!(!second.set(61));
        assert!(second.set(5));
        assert_eq!(whole.held(), 5);
        drop(second);
        assert_eq!(whole.held(), 0);
    }
}
