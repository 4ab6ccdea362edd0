package com.catga.ordersystem.client.server;

import static com.catga.ordersystem.client.OrderClient.connect;

import com.catga.ordersystem.client.OrderChannel;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import java.io.File;
import java.io.IOException;
import java.lang.ProcessBuilder.Redirect;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** The real server with an empty store of its own; a start after the first has the same port and data. */
public final class OrderServer implements AutoCloseable {
    private static final long START_MILLIS = 60_000;
    private static final long STOP_SECONDS = 30;

    private final int port;
    private final File log;
    private final ChannelCredentials credentials;
    private final List<String> command = new ArrayList<>();
    private Process process;

    /** Does not start it yet. {@code name} must be new in {@code folder} and in this run. */
    public OrderServer(Path folder, String name, List<String> args) throws IOException, InterruptedException {
        this(folder, name, args, InsecureChannelCredentials.create());
    }

    /** {@code credentials} are those that the server is asked with whether it is ready. */
    public OrderServer(Path folder, String name, List<String> args, ChannelCredentials credentials)
            throws IOException, InterruptedException {
        this.port = Surroundings.freePort();
        this.log = folder.resolve(name + ".log").toFile();
        this.credentials = credentials;
        command.addAll(List.of(Surroundings.binary().toString(), "--port", String.valueOf(port), "--log-level", "warn"));
        if (Surroundings.persistence().equals("redis")) {
            command.addAll(List.of("--persistence", "redis", "--redis", "127.0.0.1:" + RedisServer.port(), "--redis-prefix", name));
        } else {
            command.addAll(List.of("--persistence", "embedded", "--data-dir", folder.resolve(name).toString()));
        }
        command.addAll(args);
    }

    public String address() {
        return "127.0.0.1:" + port;
    }

    /** Returns when the server says that it is ready. */
    public void start() throws IOException, InterruptedException {
        if (process != null) {
            throw new IllegalStateException("the server runs already");
        }
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(Redirect.appendTo(log));
        // They are settings to the server, and it refuses those that it does not know: ORDERSYSTEM_BINARY is one.
        builder.environment().keySet().removeIf(name -> name.startsWith("ORDERSYSTEM_"));
        process = Surroundings.guarded(builder.start());
        long deadline = System.currentTimeMillis() + START_MILLIS;
        try (OrderChannel channel = connect(address(), credentials)) {
            while (!isReady(channel)) {
                if (!process.isAlive() || System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException("the server does not start: " + Files.readString(log.toPath()));
                }
                Thread.sleep(20);
            }
        }
    }

    private static boolean isReady(OrderChannel channel) {
        HealthCheckRequest readiness = HealthCheckRequest.newBuilder().setService("readiness").build();
        try {
            var health = HealthGrpc.newBlockingStub(channel).withDeadlineAfter(1, TimeUnit.SECONDS);
            return health.check(readiness).getStatus() == ServingStatus.SERVING;
        } catch (StatusRuntimeException notYet) {
            return false;
        }
    }

    /** Ends it as an operator does. */
    public void stop() throws IOException, InterruptedException {
        // On every system that the server runs on this is SIGTERM.
        process.destroy();
        boolean ended = process.waitFor(STOP_SECONDS, TimeUnit.SECONDS);
        String code = ended ? String.valueOf(process.exitValue()) : "nothing, still running";
        if (!code.equals("0")) {
            throw new IllegalStateException("the server ended with " + code + ": " + Files.readString(log.toPath()));
        }
        process = null;
    }

    /** Ends it as a crash does; nothing happens if it does not run. */
    public void kill() {
        if (process != null) {
            process.destroyForcibly().onExit().join();
            process = null;
        }
    }

    @Override
    public void close() {
        kill();
    }
}
