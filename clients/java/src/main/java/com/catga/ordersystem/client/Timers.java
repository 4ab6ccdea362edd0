package com.catga.ordersystem.client;

import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/** The one thread that wakes up for all channels and commands of the process; it ends when there is nothing to wait for. */
final class Timers {
    static final ScheduledThreadPoolExecutor SHARED = start();

    private static final long IDLE_SECONDS = 10;

    private Timers() {}

    private static ScheduledThreadPoolExecutor start() {
        ScheduledThreadPoolExecutor timers = new ScheduledThreadPoolExecutor(1, task -> {
            Thread thread = new Thread(task, "ordersystem-client-timers");
            thread.setDaemon(true);
            return thread;
        });
        // Most deadlines are met: what has been cancelled must not stay until it would have been due.
        timers.setRemoveOnCancelPolicy(true);
        timers.setKeepAliveTime(IDLE_SECONDS, TimeUnit.SECONDS);
        timers.allowCoreThreadTimeOut(true);
        return timers;
    }
}
