//! The caller that was verified last on a connection. Most connections have one caller, which repeats its credentials with each call: comparing them
//! with the verified ones costs less than a hash and a lookup.

use std::fmt;

use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq as _};

use crate::identity::Accepted;

/// The caller that was verified last.
#[derive(Debug, Default)]
pub struct LastCaller(Mutex<Option<Known>>);

struct Known {
    /// The header `authorization` by which it was verified; `None` for the certificate of the connection.
    authorization: Option<Box<[u8]>>,
    /// The version of the identities.
    version: u64,
    accepted: Accepted,
}

impl fmt::Debug for Known {
    /// Omits the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("version", &self.version)
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

impl LastCaller {
    /// The caller with these credentials, if they were the last ones, have not expired, and the identities still have this `version`.
    #[must_use]
    pub fn find(&self, authorization: Option<&[u8]>, version: u64) -> Option<Accepted> {
        let known = self.0.lock();
        let known = known.as_ref().filter(|known| known.version == version)?;
        let is_same = match (&known.authorization, authorization) {
            (Some(own), Some(other)) => is_same(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        (is_same && known.accepted.lasts()).then(|| known.accepted.clone())
    }

    /// Remembers a caller that was verified with identities of this `version`, instead of the previous one.
    pub fn remember(&self, authorization: Option<&[u8]>, version: u64, accepted: &Accepted) {
        // A copy: the header may be a part of a far larger buffer.
        let known = Known { authorization: authorization.map(Box::from), version, accepted: accepted.clone() };
        *self.0.lock() = Some(known);
    }
}

/// Whether both are equal, in a time that depends only on their lengths: clients of one proxy may share a connection.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    if one.len() != other.len() {
        return false;
    }
    let pairs = words.iter().zip(other_words).map(|(a, b)| u64::from_ne_bytes(*a).ct_eq(&u64::from_ne_bytes(*b)));
    pairs.fold(rest.ct_eq(other_rest), |so_far: Choice, next| so_far & next).into()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::identity::{Principal, Verified};

    fn accepted(until: Option<SystemTime>) -> Accepted {
        Accepted { caller: Arc::new(Verified { principal: Arc::new(Principal::nobody()), limits: None }), until }
    }

    #[test]
    fn only_the_same_credentials_of_the_same_version_are_those_of_the_last_caller() {
        let last = LastCaller::default();
        assert!(last.find(None, 1).is_none(), "there is none yet");
        let header = b"Bearer orderkey_0123456789".as_slice();
        last.remember(Some(header), 1, &accepted(None));
        assert!(last.find(Some(header), 1).is_some());
        assert!(last.find(Some(header), 2).is_none(), "the identities have been replaced");
        for place in 0..header.len() {
            let mut other = header.to_vec();
            other[place] ^= 1;
            assert!(last.find(Some(&other), 1).is_none(), "{place}");
        }
        for length in 0..header.len() {
            assert!(last.find(Some(&header[..length]), 1).is_none(), "{length}");
        }
        assert!(last.find(Some(&[header, b"0"].concat()), 1).is_none());
        assert!(last.find(None, 1).is_none(), "nor does the certificate stand for it");
        last.remember(None, 1, &accepted(None));
        assert!(
            last.find(None, 1).is_some() && last.find(Some(header), 1).is_none() && last.find(Some(b""), 1).is_none()
        );
    }

    #[test]
    fn expired_credentials_are_not_those_of_the_last_caller() {
        let (last, now) = (LastCaller::default(), SystemTime::now());
        last.remember(None, 1, &accepted(Some(now + Duration::from_secs(600))));
        assert!(last.find(None, 1).is_some());
        last.remember(None, 1, &accepted(Some(now)));
        assert!(last.find(None, 1).is_none());
    }

    #[test]
    fn its_debug_output_has_no_credentials() {
        let last = LastCaller::default();
        last.remember(Some(b"Bearer secret"), 1, &accepted(None));
        let (shown, secret) = (format!("{last:?}"), format!("{:?}", b"Bearer secret"));
        assert!(!shown.contains("secret") && !shown.contains(&secret), "{shown}");
    }
}
