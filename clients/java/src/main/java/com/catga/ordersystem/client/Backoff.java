package com.catga.ordersystem.client;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/** Waits that grow from 0.1 s to 2 s, spread at random so that clients do not come back all at once. For one thread. */
final class Backoff {
    private static final long FIRST_MILLIS = 100;
    /** Short, so that a service that is back after an outage is used again soon. */
    private static final long LONGEST_MILLIS = 2_000;

    private long nextMillis = FIRST_MILLIS;

    /** Begins again with the shortest: something has worked. */
    void reset() {
        nextMillis = FIRST_MILLIS;
    }

    /** How long to wait this time. */
    Duration next() {
        long wait = spread(nextMillis, 0.5, 1.0);
        nextMillis = Math.min(nextMillis * 2, LONGEST_MILLIS);
        return Duration.ofMillis(wait);
    }

    /** How long to wait after {@code error}: never less than the service asks for. */
    Duration next(OrderError error) {
        Duration wait = next();
        // A part of a millisecond asked for counts as a whole one.
        long askedForMillis = error.retryDelay().map(delay -> delay.plusNanos(999_999).toMillis()).orElse(0L);
        Duration askedFor = Duration.ofMillis(spread(askedForMillis, 1.0, 1.2));
        return askedFor.compareTo(wait) > 0 ? askedFor : wait;
    }

    private static long spread(long millis, double least, double most) {
        return (long) Math.ceil(millis * ThreadLocalRandom.current().nextDouble(least, most));
    }
}
