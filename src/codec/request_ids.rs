//! The idempotency keys of identified callers, in the form used by the event store.

use data_encoding::HEXLOWER;
use ring::digest;

/// The number of bytes of the hash of a caller that its keys contain: enough that nobody can choose a name with the same hash as another name.
const HASH_BYTES: usize = 16;
/// Separates the name and the customer id in the hashed text. UTF-8 text never contains this byte, so no name alone has the same hash.
const BEFORE_CUSTOMER: u8 = 0xFF;

/// The key of the request `id` of the caller with the verified name `caller`: a hash, a space, and the id. Keys are stored: their form
/// must not change.
///
/// `customer` is set for a caller that may change only the orders of this customer: callers with the same name and different customers have different
/// keys.
///
/// The id of a client has no space, so a caller without identity never uses such a key. It has at most 161 visible ASCII characters and spaces: 32 of
/// the hash, the space, and the 128 of the id.
#[must_use]
pub fn request_id_of_caller(caller: &str, customer: Option<&str>, id: &str) -> String {
    let mut hashed = digest::Context::new(&digest::SHA256);
    hashed.update(caller.as_bytes());
    if let Some(customer) = customer {
        hashed.update(&[BEFORE_CUSTOMER]);
        hashed.update(customer.as_bytes());
    }
    let hash = hashed.finish();
    let mut key = String::with_capacity(2 * HASH_BYTES + 1 + id.len());
    HEXLOWER.encode_append(&hash.as_ref()[..HASH_BYTES], &mut key);
    key.push(' ');
    key.push_str(id);
    key
}

/// Whether `key` may be the stored key of the request `id` of an event that `actor` originated, on an order of `customer`.
#[must_use]
pub fn is_key_of_request(key: &str, actor: &str, customer: &str, id: &str) -> bool {
    let is_of_caller = |of: Option<&str>| key == request_id_of_caller(actor, of, id);
    key == id || (!id.is_empty() && !actor.is_empty() && (is_of_caller(None) || is_of_caller(Some(customer))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_hash_of_the_name_and_the_id_forever() {
        // The SHA-256 of "shop" begins with these 16 bytes.
        let key = request_id_of_caller("shop", None, "req-1");
        assert_eq!(key, "8d9001d32c6a703d95921a77115050f3 req-1");
        assert!(is_key_of_request(&key, "shop", "c-1", "req-1"));
        for (actor, id) in [("shop", "req-2"), ("ann", "req-1"), ("", "req-1"), ("shop", "")] {
            assert!(!is_key_of_request(&key, actor, "c-1", id), "{actor} {id}");
        }
    }

    #[test]
    fn a_key_of_a_customer_is_the_hash_of_the_name_and_the_customer_and_the_id_forever() {
        // The SHA-256 of "shop", the byte FF and "c-1" begins with these 16 bytes.
        let key = request_id_of_caller("shop", Some("c-1"), "req-1");
        assert_eq!(key, "da7d4ae0b69ecc76c2a4c9ab9306c43f req-1");
        assert!(is_key_of_request(&key, "shop", "c-1", "req-1"));
        for (actor, customer) in [("shop", "c-2"), ("shop", ""), ("shopc-1", ""), ("shopc", "-1"), ("", "c-1")] {
            assert!(!is_key_of_request(&key, actor, customer, "req-1"), "{actor} {customer}");
        }
    }

    #[test]
    fn a_key_without_a_caller_is_the_id() {
        assert!(is_key_of_request("req-1", "ann", "c-1", "req-1") && is_key_of_request("", "", "c-1", ""));
        assert!(!is_key_of_request("", "ann", "c-1", "req-1") && !is_key_of_request("req-1", "ann", "c-1", ""));
    }

    #[test]
    fn the_longest_key_has_a_length_that_every_store_accepts() {
        let long = "é".repeat(128);
        assert_eq!(request_id_of_caller(&long, Some(&long), &"x".repeat(128)).len(), 161);
    }
}
