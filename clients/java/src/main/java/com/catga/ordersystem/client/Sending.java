package com.catga.ordersystem.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/** Commands that are safe to retry. */
final class Sending {
    /** As many answers of the service as come in time. */
    static final int UNLIMITED = Integer.MAX_VALUE;

    private static final String REQUEST_ID = "request_id";

    private Sending() {}

    /** {@code timeout} is null for that of the context, or the default; {@code attempts} is {@link #UNLIMITED} for as many as fit. */
    static <C extends Message, R> R send(
            Function<? super C, ? extends R> method, C command, Duration timeout, int attempts) {
        if (attempts < 1) {
            throw new IllegalArgumentException("attempts must be at least 1");
        }
        C identified = withRequestId(command);
        Deadline deadline = deadlineOf(timeout);
        Backoff backoff = new Backoff();
        int answers = 0;
        while (true) {
            try {
                return within(deadline, () -> method.apply(identified));
            } catch (StatusRuntimeException error) {
                OrderError facts = OrderError.of(error);
                Duration wait = backoff.next(facts);
                boolean inTime = wait.compareTo(Duration.ofNanos(deadline.timeRemaining(TimeUnit.NANOSECONDS))) < 0;
                // A service that cannot be reached has not answered: only time limits how often that is tried.
                if (!facts.isOfConnection()) {
                    answers++;
                }
                if (answers >= attempts || !facts.isRetryable() || !inTime) {
                    throw error;
                }
                sleep(wait, error);
            }
        }
    }

    /** That of the context holds as well as the time limit, and in place of the default. */
    private static Deadline deadlineOf(Duration timeout) {
        Deadline ofContext = Context.current().getDeadline();
        if (timeout == null && ofContext != null) {
            return ofContext;
        }
        Duration limit = timeout == null ? OrderClient.SEND_TIMEOUT : timeout;
        Deadline deadline = Deadline.after(limit.toNanos(), TimeUnit.NANOSECONDS);
        return ofContext == null ? deadline : deadline.minimum(ofContext);
    }

    @SuppressWarnings("unchecked")
    static <C extends Message> C withRequestId(C command) {
        FieldDescriptor field = command.getDescriptorForType().findFieldByName(REQUEST_ID);
        if (field == null) {
            throw new IllegalArgumentException(command.getDescriptorForType().getFullName() + " is no command: it has no " + REQUEST_ID);
        }
        if (!command.getField(field).equals("")) {
            return command;
        }
        // A builder of a message builds messages of its class.
        return (C) command.toBuilder().setField(field, UUID.randomUUID().toString()).build();
    }

    /** Makes a call of a stub that is not known here, so the deadline goes by way of the context of the call. */
    static <R> R within(Deadline deadline, Supplier<R> call) {
        Context.CancellableContext context = Context.current().withDeadline(deadline, Timers.SHARED);
        Context before = context.attach();
        try {
            return call.get();
        } finally {
            context.detachAndCancel(before, null);
        }
    }

    private static void sleep(Duration wait, StatusRuntimeException last) {
        try {
            Thread.sleep(wait.toMillis());
        } catch (InterruptedException interrupt) {
            throw interrupted(interrupt, last);
        }
    }

    /** What a blocking stub makes of an interrupt as well; the flag stays set. */
    static StatusRuntimeException interrupted(InterruptedException interrupt, StatusRuntimeException last) {
        Thread.currentThread().interrupt();
        StatusRuntimeException error =
                Status.CANCELLED.withDescription("interrupted while waiting to retry").withCause(interrupt).asRuntimeException();
        error.addSuppressed(last);
        return error;
    }
}
