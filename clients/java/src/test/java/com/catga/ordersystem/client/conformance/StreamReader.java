package com.catga.ordersystem.client.conformance;

import com.catga.ordersystem.client.OrderError;
import com.google.protobuf.Message;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

/** Reads a stream in a thread of its own, so that a message can be waited for with a limit. */
final class StreamReader {
    /** What was received: a message, the end, or an error. */
    record Item(Kind kind, Object value) {}

    enum Kind {
        MESSAGE,
        END,
        ERROR
    }

    private static final long MESSAGE_SECONDS = 30;

    private final Iterator<? extends Message> stream;
    private final Runnable cancel;
    // Bounded: an endless stream must not fill the memory.
    private final BlockingQueue<Item> items = new ArrayBlockingQueue<>(16);
    private final Thread thread;

    /** {@code cancel} ends the stream. */
    StreamReader(Iterator<? extends Message> stream, Runnable cancel) {
        this.stream = stream;
        this.cancel = cancel;
        this.thread = new Thread(this::read, "stream-reader");
        thread.setDaemon(true);
        thread.start();
    }

    Item next() throws InterruptedException {
        Item item = items.poll(MESSAGE_SECONDS, TimeUnit.SECONDS);
        if (item == null) {
            throw new AssertionError("no message within " + MESSAGE_SECONDS + " s");
        }
        return item;
    }

    void cancel() {
        cancel.run();
        // It may be waiting for room.
        thread.interrupt();
    }

    private void read() {
        try {
            try {
                while (stream.hasNext()) {
                    items.put(new Item(Kind.MESSAGE, Json.of(stream.next())));
                }
                items.put(new Item(Kind.END, null));
            } catch (StatusRuntimeException error) {
                items.put(new Item(Kind.ERROR, Json.of(OrderError.of(error))));
            }
        } catch (InterruptedException cancelled) {
            Thread.currentThread().interrupt();
        }
    }
}
