package com.catga.ordersystem.client;

import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * The messages of a stream, which is reopened where it broke off: nothing is lost and nothing comes twice.
 *
 * <p>{@link #hasNext} and {@link #next} wait for a message; the stream is opened by the first of them. Read it in one thread;
 * {@link #cancel} may be called from any. {@code caught_up} comes once, however often the stream is reopened. An error that trying
 * again does not mend is thrown as the {@link StatusRuntimeException} that it is, and again by every later call. It can be read
 * once: {@link #iterator} is the follow itself.
 *
 * @param <T> the messages of the stream
 */
public final class Follow<T> implements Iterator<T>, Iterable<T>, AutoCloseable {
    private final Place<T> place;
    private final Duration giveUpAfter;
    private final Backoff backoff = new Backoff();
    private final CountDownLatch cancelled = new CountDownLatch(1);
    private final Object lock = new Object();

    /** Of the open stream, guarded by {@code lock}. */
    private Context.CancellableContext context;

    private Iterator<T> messages;
    private boolean hasCaughtUp;
    private boolean isFailing;
    private long failingSinceNanos;
    private boolean hasEnded;
    private StatusRuntimeException failure;
    private T read;
    private volatile String cursor = "";

    /** {@code giveUpAfter} is null to try forever. */
    Follow(Place<T> place, Duration giveUpAfter) {
        this.place = place;
        this.giveUpAfter = giveUpAfter;
    }

    /**
     * The cursor of the last message that {@link #next} gave; keep it to continue from here later with {@code STREAM_START_AFTER}.
     * Empty before the first.
     */
    public String cursor() {
        return cursor;
    }

    /** Waits for a message; false once the stream has ended or has been cancelled. */
    @Override
    public boolean hasNext() {
        if (failure != null) {
            throw failure;
        }
        while (read == null && !hasEnded) {
            try {
                advance();
            } catch (StatusRuntimeException error) {
                recover(error);
            }
        }
        return read != null;
    }

    @Override
    public T next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the stream has ended");
        }
        T message = read;
        read = null;
        cursor = place.cursorOf(message);
        return message;
    }

    @Override
    public Iterator<T> iterator() {
        return this;
    }

    /** Ends the stream, also while another thread waits for a message. */
    public void cancel() {
        synchronized (lock) {
            cancelled.countDown();
            if (context != null) {
                context.cancel(null);
            }
        }
    }

    /** The same as {@link #cancel}. */
    @Override
    public void close() {
        cancel();
    }

    /** Reads one message of the stream, which is opened if it is not open. */
    private void advance() {
        if (!open() || !messages.hasNext()) {
            hasEnded = true;
            cancel();
            return;
        }
        T message = messages.next();
        isFailing = false;
        backoff.reset();
        place.note(message);
        if (!place.isCaughtUp(message)) {
            read = message;
        } else if (!hasCaughtUp) {
            hasCaughtUp = true;
            read = message;
        }
    }

    /** Whether there is an open stream: not once cancelled. */
    private boolean open() {
        synchronized (lock) {
            if (cancelled.getCount() == 0) {
                return false;
            }
            if (messages == null) {
                context = Context.current().withCancellation();
                Context before = context.attach();
                try {
                    messages = place.open();
                } finally {
                    context.detach(before);
                }
            }
            return true;
        }
    }

    /** Waits before the stream is reopened; throws {@code error} if that would not help. */
    private void recover(StatusRuntimeException error) {
        synchronized (lock) {
            messages = null;
            context.cancel(null);
        }
        if (cancelled.getCount() == 0) {
            return;
        }
        OrderError facts = OrderError.of(error);
        long now = System.nanoTime();
        if (!isFailing) {
            isFailing = true;
            failingSinceNanos = now;
        }
        Duration wait = backoff.next(facts);
        boolean givesUp = giveUpAfter != null && wait.plusNanos(now - failingSinceNanos).compareTo(giveUpAfter) > 0;
        if (!facts.isRetryable() || givesUp) {
            failure = error;
            throw error;
        }
        try {
            // A cancel ends the wait.
            cancelled.await(wait.toMillis(), TimeUnit.MILLISECONDS);
        } catch (InterruptedException interrupt) {
            failure = Sending.interrupted(interrupt, error);
            throw failure;
        }
    }
}
