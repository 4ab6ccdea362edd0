//! The handler that logs orders.

use super::*;

/// The log output of a subscriber.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs three events, one of them damaged, with `filter`; returns the logger and its output.
async fn log_with(filter: &str) -> (OrderEventLogger, String) {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let logger = OrderEventLogger::new();
    let odd = Message { kind: "order.returned".into(), ..message(7, 2) };
    let damaged = Message { payload: Bytes::from_static(&[0xff]), ..message(7, 3) };
    for message in [message(7, 1), odd, damaged] {
        logger.handle(&ReceivedEvent { message, attempt: 1, replayed: false }).await.unwrap();
    }
    let text = String::from_utf8(written.0.lock().clone()).unwrap();
    (logger, text)
}

#[tokio::test]
async fn the_order_event_logger_counts_by_type_and_logs_a_line_an_event() {
    let (logger, text) = log_with("order_events=info").await;
    let counts: HashMap<_, _> = logger.counts().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, HashMap::from([("OrderPaid", 2), ("other", 1)]));
    assert!(text.contains("INFO order_events") && text.contains("event_id=7-1"), "{text}");
    assert!(text.contains(r#"customer_id="c-1""#) && text.contains("damaged order event"), "{text}");
    assert_eq!(logger.undecodable(), 1);
}

#[tokio::test]
async fn the_order_event_logger_decodes_nothing_when_its_target_is_off() {
    let (logger, text) = log_with("debug,order_events=off").await;
    assert_eq!(text, "");
    assert_eq!(logger.undecodable(), 0, "it decoded");
    assert_eq!(logger.counts().map(|(_, count)| count).sum::<u64>(), 3);
}
