//! The id generator of a node, and the source of its worker number.

use std::sync::Arc;

use super::{Backends, StartError};
use crate::{
    cluster::LeasedMark,
    config::Config,
    id_generator::{IdGenerator, OwnNumbers},
    ports::clock::Clock,
    private_files,
};

/// The source of a node's worker number.
pub(super) enum Numbers {
    /// Other nodes may use the same log: a lease, with its mark stored with the log.
    Leased(LeasedMark),
    /// No other node uses its log: the node's own numbers.
    Own(Arc<OwnNumbers>),
}

/// The generator: without a number until a lease is acquired, or with a fixed number.
pub(super) fn id_generator(
    config: &Config,
    backends: &Backends,
    clock: &Arc<dyn Clock>,
) -> Result<(IdGenerator, Numbers), StartError> {
    let node = &config.node;
    if backends.is_shared {
        let mark = LeasedMark::new(Arc::clone(&backends.checkpoints));
        let ids = IdGenerator::without_worker_id(node.identity, Arc::clone(clock), Box::new(mark.clone()));
        return Ok((ids, Numbers::Leased(mark)));
    }
    if let Some(dir) = &node.data_dir {
        private_files::make_folder(dir).map_err(|error| format!("data folder {}: {error}", dir.display()))?;
    }
    let numbers = OwnNumbers::new(node.identity, node.has_chosen_worker, Arc::clone(clock), node.data_dir.as_deref());
    Ok((numbers.start()?, Numbers::Own(Arc::new(numbers))))
}
