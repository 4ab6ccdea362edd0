//! The memory backend: everything is gone when the process ends.
