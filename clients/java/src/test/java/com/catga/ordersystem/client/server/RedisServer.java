package com.catga.ordersystem.client.server;

import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** The Redis server of this run, which syncs before it answers. */
final class RedisServer {
    private static final long START_MILLIS = 20_000;
    private static final List<String> SETTINGS =
            List.of("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction");

    private static RedisServer started;

    private final int port;
    private final Path folder;

    private RedisServer() throws IOException {
        port = Surroundings.freePort();
        folder = Files.createTempDirectory("ordersystem-client-redis");
    }

    /** The port of the one server of this run, started by the first who asks; it ends with this process. */
    static synchronized int port() throws IOException, InterruptedException {
        if (started == null) {
            RedisServer server = new RedisServer();
            server.start();
            started = server;
        }
        return started.port;
    }

    private void start() throws IOException, InterruptedException {
        List<String> where =
                List.of("redis-server", "--port", String.valueOf(port), "--bind", "127.0.0.1", "--dir", folder.toString());
        Process process = new ProcessBuilder(Stream.concat(where.stream(), SETTINGS.stream()).toList())
                .redirectErrorStream(true)
                .redirectOutput(folder.resolve("redis.log").toFile())
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> end(process)));
        long deadline = System.currentTimeMillis() + START_MILLIS;
        while (!answers()) {
            if (!process.isAlive() || System.currentTimeMillis() > deadline) {
                throw new IllegalStateException("redis-server does not start: " + Files.readString(folder.resolve("redis.log")));
            }
            Thread.sleep(50);
        }
    }

    private boolean answers() {
        try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
            return socket.isConnected();
        } catch (IOException notYet) {
            return false;
        }
    }

    private void end(Process process) {
        try {
            process.destroyForcibly().waitFor();
            try (Stream<Path> files = Files.walk(folder)) {
                files.sorted(java.util.Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
            }
        } catch (IOException | InterruptedException left) {
            // The folder is a temporary one.
            System.err.println("left behind: " + folder);
        }
    }
}
