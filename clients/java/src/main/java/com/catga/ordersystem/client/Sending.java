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

/** Commands that are safe to retry. */
final class Sending {
    private static final String REQUEST_ID = "request_id";

    private Sending() {}

    static <C extends Message, R> R send(
            Function<? super C, ? extends R> method, C command, Duration timeout, int attempts) {
        if (attempts < 1) {
            throw new IllegalArgumentException("attempts must be at least 1");
        }
        C identified = withRequestId(command);
        Deadline deadline = Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
        Backoff backoff = new Backoff();
        for (int left = attempts - 1; ; left--) {
            try {
                return attempt(method, identified, deadline);
            } catch (StatusRuntimeException error) {
                OrderError facts = OrderError.of(error);
                Duration wait = backoff.next(facts);
                boolean inTime = wait.compareTo(Duration.ofNanos(deadline.timeRemaining(TimeUnit.NANOSECONDS))) < 0;
                if (left == 0 || !facts.isRetryable() || !inTime) {
                    throw error;
                }
                sleep(wait, error);
            }
        }
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

    /** The method belongs to a stub that is out of reach here, so the deadline goes by way of the context of the call. */
    private static <C, R> R attempt(Function<? super C, ? extends R> method, C command, Deadline deadline) {
        Context.CancellableContext context = Context.current().withDeadline(deadline, Timers.SHARED);
        Context before = context.attach();
        try {
            return method.apply(command);
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
