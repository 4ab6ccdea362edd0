//! Stub to be replaced.
use crate::event_store::Position;
use async_trait::async_trait;
use std::{fmt, sync::Arc};
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: u64,
    pub customer: Arc<str>,
    pub status: u8,
    pub created_at_micros: i64,
    pub updated_at_micros: i64,
    pub amount_minor: i64,
    pub currency: [u8; 3],
    pub item_count: u32,
    pub revision: u64,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    Insert(Row),
    Update { id: u64, status: u8, revision: u64, updated_at_micros: i64 },
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadModelError {
    Unavailable(String),
    Corrupt(String),
}
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    pub customer: Option<Arc<str>>,
    pub status: Option<u8>,
    pub created_from_micros: Option<i64>,
    pub created_to_micros: Option<i64>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    NewestFirst,
    OldestFirst,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowKey {
    pub created_at_micros: i64,
    pub id: u64,
}
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub filter: ListFilter,
    pub order: ListOrder,
    pub after: Option<RowKey>,
    pub limit: usize,
}
#[derive(Clone, Debug)]
pub struct Page {
    pub rows: Vec<Row>,
    pub next: Option<RowKey>,
}
#[derive(Clone, Debug)]
pub struct Totals {
    pub status: u8,
    pub currency: [u8; 3],
    pub count: u64,
    pub amount_minor: i128,
}
#[async_trait]
pub trait ReadModel: fmt::Debug + Send + Sync + 'static {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: Position) -> Result<(), ReadModelError>;
    async fn checkpoint(&self) -> Result<Position, ReadModelError>;
    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError>;
    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError>;
    async fn check(&self) -> Result<(), ReadModelError>;
}
impl fmt::Display for ReadModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
