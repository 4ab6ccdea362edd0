//! Stub to be replaced.
use crate::{event_store::Position, read_model::*};
use std::sync::Mutex;
#[derive(Debug, Default)]
pub struct MemoryReadModel(Mutex<(Vec<Row>, u64)>);
#[async_trait::async_trait]
impl ReadModel for MemoryReadModel {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: Position) -> Result<(), ReadModelError> {
        let mut s = self.0.lock().unwrap();
        for c in changes {
            match c {
                RowChange::Insert(r) => s.0.push(r),
                RowChange::Update { id, status, revision, updated_at_micros } => {
                    let r = s.0.iter_mut().find(|r| r.id == id).unwrap();
                    r.status = status;
                    r.revision = revision;
                    r.updated_at_micros = updated_at_micros;
                }
            }
        }
        s.1 = checkpoint.0;
        Ok(())
    }
    async fn checkpoint(&self) -> Result<Position, ReadModelError> {
        Ok(Position(self.0.lock().unwrap().1))
    }
    async fn list(&self, q: &ListQuery) -> Result<Page, ReadModelError> {
        Ok(Page { rows: self.0.lock().unwrap().0.iter().rev().take(q.limit).cloned().collect(), next: None })
    }
    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError> {
        Ok(vec![])
    }
    async fn check(&self) -> Result<(), ReadModelError> {
        Ok(())
    }
}
