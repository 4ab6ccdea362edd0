package com.catga.ordersystem.client.server;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;

/** What the tests are told about the machine and the run. */
public final class Surroundings {
    /** {@code clients/java}. */
    public static final Path CLIENT = Path.of(System.getProperty("basedir", "")).toAbsolutePath();

    private static final Path ROOT = CLIENT.getParent().getParent();

    /** The key of a caller that may do everything. */
    public static final String ALL_ROLES = "orderkey_test-only-all------------------------------";

    /** Whether the server identifies its callers in files that do not say so. */
    public static final boolean WITH_IDENTITIES = "1".equals(System.getenv("CONFORMANCE_IDENTITIES"));

    private Surroundings() {}

    /** The callers of the scenarios, in a file that only this user can write. */
    public static Path identities(Path folder) throws IOException {
        Path copy = folder.resolve("identities.toml");
        if (Files.notExists(copy)) {
            Files.createFile(copy, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
            Files.write(copy, Files.readAllBytes(CLIENT.resolveSibling("conformance").resolve("identities.toml")));
        }
        return copy;
    }

    /** The persistence under test. */
    public static String persistence() {
        String name = System.getenv().getOrDefault("CONFORMANCE_PERSISTENCE", "embedded");
        if (!List.of("embedded", "redis").contains(name)) {
            throw new IllegalArgumentException("CONFORMANCE_PERSISTENCE must be embedded or redis, not " + name);
        }
        return name;
    }

    /** The server under test. */
    static Path binary() {
        String named = System.getenv("ORDERSYSTEM_BINARY");
        List<Path> candidates = named != null
                ? List.of(Path.of(named))
                : List.of(ROOT.resolve("target/release/ordersystem"), ROOT.resolve("target/debug/ordersystem"));
        return candidates.stream()
                .filter(Files::isRegularFile)
                .findFirst()
                .map(Path::toAbsolutePath)
                .orElseThrow(() -> new IllegalStateException("no server at " + candidates + ": build it, or set ORDERSYSTEM_BINARY"));
    }

    public static int freePort() throws IOException {
        try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return listener.getLocalPort();
        }
    }

    /** Kills a process at the latest when this one ends, whatever becomes of the tests. */
    public static Process guarded(Process process) {
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        return process;
    }
}
