//! The memory store of cqrs-es 0.5 (`cqrs_es::mem_store::MemStore`) without the two lines that it prints for each command.

use std::{collections::HashMap, sync::RwLock};

use cqrs_es::{Aggregate, AggregateContext, AggregateError, EventEnvelope, EventStore};

pub struct QuietStore<A: Aggregate> {
    events: RwLock<HashMap<String, Vec<EventEnvelope<A>>>>,
}

pub struct Loaded<A> {
    aggregate_id: String,
    aggregate: A,
    sequence: usize,
}

impl<A: Aggregate> Default for QuietStore<A> {
    fn default() -> Self {
        Self { events: RwLock::default() }
    }
}

impl<A: Aggregate> AggregateContext<A> for Loaded<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

impl<A: Aggregate> QuietStore<A> {
    fn committed(&self, aggregate_id: &str) -> Vec<EventEnvelope<A>> {
        self.events.read().expect("no panic").get(aggregate_id).cloned().unwrap_or_default()
    }
}

impl<A: Aggregate> EventStore<A> for QuietStore<A> {
    type AC = Loaded<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        Ok(self.committed(aggregate_id))
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Loaded<A>, AggregateError<A::Error>> {
        let (mut aggregate, mut sequence) = (A::default(), 0);
        for envelope in self.committed(aggregate_id) {
            sequence = envelope.sequence;
            aggregate.apply(envelope.payload);
        }
        Ok(Loaded { aggregate_id: aggregate_id.to_owned(), aggregate, sequence })
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        loaded: Loaded<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let Loaded { aggregate_id, sequence, .. } = loaded;
        let wrapped: Vec<_> = (sequence + 1..)
            .zip(events)
            .map(|(sequence, payload)| EventEnvelope {
                aggregate_id: aggregate_id.clone(),
                sequence,
                payload,
                metadata: metadata.clone(),
            })
            .collect();
        if !wrapped.is_empty() {
            let mut all = self.committed(&aggregate_id);
            all.extend(wrapped.iter().cloned());
            self.events.write().expect("no panic").insert(aggregate_id, all);
        }
        Ok(wrapped)
    }
}
