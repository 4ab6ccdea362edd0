package com.catga.ordersystem.client.conformance;

import com.catga.ordersystem.client.server.OrderServer;
import com.catga.ordersystem.client.server.Surroundings;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.yaml.snakeyaml.LoaderOptions;
import org.yaml.snakeyaml.Yaml;
import org.yaml.snakeyaml.constructor.SafeConstructor;

/** The scenarios that every client runs. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ConformanceTest {
    static final Path SCENARIOS = Surroundings.CLIENT.resolveSibling("conformance");

    @TempDir
    private Path folder;

    /** Of the file that runs: one file, one server. */
    private OrderServer server;

    private Path serverIsOf;

    /** With which its scenarios begin. */
    private String token;

    static Object load(Path path) throws IOException {
        try (Reader text = Files.newBufferedReader(path)) {
            return new Yaml(new SafeConstructor(new LoaderOptions())).load(text);
        }
    }

    private static List<Path> files() throws IOException {
        try (Stream<Path> files = Files.list(SCENARIOS)) {
            return files.filter(path -> path.toString().endsWith(".yaml")).sorted().toList();
        }
    }

    private static String stem(Path path) {
        return path.getFileName().toString().replace(".yaml", "");
    }

    private static List<?> scenariosOf(Path path) throws IOException {
        return (List<?>) ((Map<?, ?>) load(path)).get("scenarios");
    }

    @TestFactory
    List<DynamicTest> scenarios() throws IOException {
        List<DynamicTest> tests = new ArrayList<>();
        for (Path path : files()) {
            for (Object each : scenariosOf(path)) {
                Map<?, ?> scenario = (Map<?, ?>) each;
                String name = stem(path) + ": " + scenario.get("name");
                tests.add(DynamicTest.dynamicTest(name, () -> run(path, name, (List<?>) scenario.get("steps"))));
            }
        }
        return tests;
    }

    @Test
    void there_are_scenarios_to_run() throws IOException {
        Assertions.assertTrue(scenarios().size() > 30);
    }

    @AfterAll
    void stop() {
        if (server != null) {
            server.kill();
        }
    }

    private void run(Path path, String name, List<?> steps) throws Exception {
        serve(path);
        try (ScenarioRun run = new ScenarioRun(server, token)) {
            for (int number = 1; number <= steps.size(); number++) {
                Map<?, ?> step = (Map<?, ?>) steps.get(number - 1);
                try {
                    run.step(step);
                } catch (Exception | AssertionError error) {
                    var first = step.entrySet().iterator().next();
                    throw new AssertionError("%s, step %d, %s: %s".formatted(name, number, first, error.getMessage()), error);
                }
            }
        }
    }

    /** Sees to it that the server of a file runs, and no other. */
    private void serve(Path path) throws Exception {
        if (path.equals(serverIsOf)) {
            return;
        }
        stop();
        serverIsOf = path;
        List<String> args = new ArrayList<>(argsOf(path));
        boolean isAsked = isTrue(path, "identities");
        if (isAsked || Surroundings.WITH_IDENTITIES) {
            args.addAll(List.of("--identities", Surroundings.identities(folder).toString()));
        }
        token = isAsked || !Surroundings.WITH_IDENTITIES ? "" : Surroundings.ALL_ROLES;
        server = new OrderServer(folder, stem(path), args);
        server.start();
    }

    private static boolean isTrue(Path path, String setting) throws IOException {
        return ((Map<?, ?>) load(path)).get("server") instanceof Map<?, ?> server && Boolean.TRUE.equals(server.get(setting));
    }

    private static List<String> argsOf(Path path) throws IOException {
        if (((Map<?, ?>) load(path)).get("server") instanceof Map<?, ?> server && server.get("args") instanceof List<?> args) {
            return args.stream().map(String.class::cast).toList();
        }
        return List.of();
    }
}
