package com.catga.ordersystem.client;

import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * A channel to the order service, for the generated stubs. Opened by {@link OrderClient#connect}.
 *
 * <p>Beyond what a {@link ManagedChannel} does it can be closed, and it connects again soon: gRPC's own longest wait is two
 * minutes, while the service may be back within a second of a restart.
 */
public final class OrderChannel extends ManagedChannel implements AutoCloseable {
    private static final long KEEPALIVE_SECONDS = 20;
    private static final long KEEPALIVE_TIMEOUT_SECONDS = 10;
    private static final long CLOSE_SECONDS = 5;

    private final ManagedChannel channel;
    private final Backoff backoff = new Backoff();

    private OrderChannel(ManagedChannel channel) {
        this.channel = channel;
    }

    static OrderChannel open(
            String address, ChannelCredentials credentials, Consumer<? super ManagedChannelBuilder<?>> options) {
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(address, credentials)
                .defaultServiceConfig(ServiceConfig.asMap())
                // Notices that the other side is gone although nothing is being sent, as on a followed history.
                .keepAliveTime(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
                .keepAliveTimeout(KEEPALIVE_TIMEOUT_SECONDS, TimeUnit.SECONDS);
        options.accept(builder);
        OrderChannel opened = new OrderChannel(builder.build());
        opened.watch();
        return opened;
    }

    /** Ends all calls and the connection. Waits up to 5 s for them to be gone; an interrupt ends only the wait. */
    @Override
    public void close() {
        channel.shutdownNow();
        try {
            channel.awaitTermination(CLOSE_SECONDS, TimeUnit.SECONDS);
        } catch (InterruptedException interrupt) {
            Thread.currentThread().interrupt();
        }
    }

    /** While it cannot connect: tries again by our backoff, since that of gRPC cannot be set. */
    private void watch() {
        ConnectivityState state = channel.getState(false);
        switch (state) {
            case SHUTDOWN -> {}
            case TRANSIENT_FAILURE -> {
                long waitMillis;
                synchronized (backoff) {
                    waitMillis = backoff.next().toMillis();
                }
                Timers.SHARED.schedule(this::reconnect, waitMillis, TimeUnit.MILLISECONDS);
            }
            default -> {
                if (state == ConnectivityState.READY) {
                    synchronized (backoff) {
                        backoff.reset();
                    }
                }
                channel.notifyWhenStateChanged(state, this::watch);
            }
        }
    }

    private void reconnect() {
        if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
            channel.resetConnectBackoff();
        }
        // The state stays TRANSIENT_FAILURE until an attempt succeeds, so this may well schedule the next one.
        watch();
    }

    @Override
    public <C, R> ClientCall<C, R> newCall(MethodDescriptor<C, R> method, CallOptions options) {
        return channel.newCall(method, options);
    }

    @Override
    public String authority() {
        return channel.authority();
    }

    @Override
    public OrderChannel shutdown() {
        channel.shutdown();
        return this;
    }

    @Override
    public OrderChannel shutdownNow() {
        channel.shutdownNow();
        return this;
    }

    @Override
    public boolean isShutdown() {
        return channel.isShutdown();
    }

    @Override
    public boolean isTerminated() {
        return channel.isTerminated();
    }

    @Override
    public boolean awaitTermination(long timeout, TimeUnit unit) throws InterruptedException {
        return channel.awaitTermination(timeout, unit);
    }

    @Override
    public ConnectivityState getState(boolean requestConnection) {
        return channel.getState(requestConnection);
    }

    @Override
    public void notifyWhenStateChanged(ConnectivityState source, Runnable callback) {
        channel.notifyWhenStateChanged(source, callback);
    }

    @Override
    public void resetConnectBackoff() {
        channel.resetConnectBackoff();
    }

    @Override
    public void enterIdle() {
        channel.enterIdle();
    }
}
