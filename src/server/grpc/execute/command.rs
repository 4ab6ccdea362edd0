//! One command of a call: what is kept of it, its limits, and its reply.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use prost::Message as _;
use tonic_types::pb::Status as RpcStatus;

use crate::{
    application::{
        CommandReply, OrderRequest,
        byte_budget::HeldBytes,
        requests::{self, Field, Violations},
        tokens::Signer,
    },
    codec::wire::MessageWriter,
    identity::{
        Principal,
        limits::{CallerLimits, Exceeded, Permit},
    },
    proto::catga::orders::v1 as pb,
    server::{
        ApiState,
        access::Standing,
        error::{ApiError, PANIC},
        grpc::convert,
    },
};

/// The room for a typical reply. A longer one grows its buffer.
const USUAL_REPLY_BYTES: usize = 512;
/// The maximum length of a correlation id, in characters.
const MAX_CORRELATION_ID_CHARS: usize = 128;

/// A reply, with the bytes that it reserves until the client reads it.
pub struct Reply {
    /// The message, with the header of its frame.
    pub message: Vec<u8>,
    _bytes: HeldBytes,
}

/// A command that has been read. The client's message is not kept: it may be far larger.
pub struct Accepted {
    pub correlation_id: String,
    pub request: Result<OrderRequest, ApiError>,
    /// The size of its message, by which it counts while it runs.
    pub request_bytes: usize,
    /// The limits of its caller.
    pub limits: Option<Arc<CallerLimits>>,
    /// Audits a refusal; `None` if it has already been audited, and where callers are not identified.
    pub standing: Option<Arc<Standing>>,
    /// The reservation for the reply.
    pub bytes: HeldBytes,
    /// Whether it has been counted by the rate of its caller.
    pub is_counted: bool,
    /// Its permit among the commands of its caller, if they are bounded.
    pub permit: Option<Permit>,
}

impl Accepted {
    /// Counts it as a call of its caller.
    pub fn within_limits(&mut self) -> Result<(), Exceeded> {
        let Some(limits) = &self.limits else { return Ok(()) };
        if !self.is_counted {
            limits.call()?;
            self.is_counted = true;
        }
        if self.permit.is_none() {
            self.permit = limits.command()?;
        }
        Ok(())
    }

    /// Executes it.
    pub async fn execute(mut self, api: &ApiState) -> Reply {
        let request = std::mem::replace(&mut self.request, Err(Violations::default().into()));
        // A panic ends one command, like one unary call, but not the others of this call.
        let work = AssertUnwindSafe(run(api, request)).catch_unwind();
        let outcome = api.admission.join(self.request_bytes).run(work).await;
        let outcome = outcome.unwrap_or_else(|_panic| Err(ApiError::internal(PANIC)));
        if let (Some(standing), Err(error)) = (&self.standing, &outcome) {
            standing.refused(error);
        }
        self.reply(outcome)
    }

    /// The reply with `outcome`.
    fn reply(self, outcome: Result<(CommandReply, Signer), ApiError>) -> Reply {
        let Self { correlation_id, mut bytes, permit, .. } = self;
        drop(permit);
        let mut wire = MessageWriter::with_capacity(USUAL_REPLY_BYTES);
        wire.framed(|wire| {
            wire.text(1, &correlation_id);
            match outcome {
                Ok((reply, signer)) => wire.message(2, |wire| convert::write_success(wire, &reply, &signer)),
                Err(error) => wire.encoded(3, &to_rpc_status(&error).encode_to_vec()),
            }
        });
        let message = wire.into_bytes();
        // If the reply is larger than its reservation, no further command is read before the client has read some replies.
        let _ = bytes.set(message.len());
        Reply { message, _bytes: bytes }
    }

    /// The reply of a command that is refused before it runs; audited, if it concerns the caller.
    pub fn refuse(self, refusal: ApiError) -> Reply {
        if let Some(standing) = &self.standing {
            standing.refused(&refusal);
        }
        self.reply(Err(refusal))
    }
}

async fn run(api: &ApiState, request: Result<OrderRequest, ApiError>) -> Result<(CommandReply, Signer), ApiError> {
    let reply = api.mediator.execute(request?).await?;
    Ok((reply, api.signer()?))
}

/// The request of a command by `caller`.
pub fn parse(request: &pb::ExecuteCommandsRequest, caller: &Principal) -> Result<OrderRequest, ApiError> {
    let draft = request.command.as_ref().map(convert::command);
    if let Some(draft) = &draft {
        // Checked first, as for the call of a single command: other errors are only reported to callers with the role.
        draft.kind().check_roles(caller)?;
    }
    let mut violations = Violations::default();
    if request.correlation_id.chars().nth(MAX_CORRELATION_ID_CHARS).is_some() {
        let description = format_args!("must have at most {MAX_CORRELATION_ID_CHARS} characters");
        violations.add(Field::CorrelationId, description);
    }
    let Some(draft) = draft else {
        violations.add(Field::Command, "must be set");
        return Err(violations.into());
    };
    Ok(requests::command(violations, draft, caller)?)
}

/// The correlation id of the reply. One that is too long is refused, and truncated in the reply.
pub fn correlation_id(request: &pb::ExecuteCommandsRequest) -> String {
    let id = &request.correlation_id;
    let end = id.char_indices().nth(MAX_CORRELATION_ID_CHARS).map_or(id.len(), |(end, _)| end);
    id[..end].to_owned()
}

fn to_rpc_status(error: &ApiError) -> RpcStatus {
    let status = error.to_status();
    // The details already are the encoded google.rpc.Status.
    RpcStatus::decode(status.details()).unwrap_or_else(|_| RpcStatus {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
