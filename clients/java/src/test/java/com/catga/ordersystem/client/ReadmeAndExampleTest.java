package com.catga.ordersystem.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.catga.ordersystem.client.server.OrderServer;
import com.catga.ordersystem.client.server.Surroundings;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.io.TempDir;

/** What the README and the example show is what happens. */
class ReadmeAndExampleTest {
    private static final Pattern BLOCK = Pattern.compile("^```java\n(.*?)^```", Pattern.DOTALL | Pattern.MULTILINE);
    private static final Pattern PRINTED = Pattern.compile("^ *System\\.out\\.println\\(.*\\); // (.*)$", Pattern.MULTILINE);
    private static final Pattern IMPORT = Pattern.compile("^import .*;\n", Pattern.MULTILINE);

    @TempDir
    private Path folder;

    private OrderServer server;

    @BeforeEach
    void start(TestInfo test) throws Exception {
        server = new OrderServer(folder, test.getTestMethod().orElseThrow().getName().substring(0, 10) + System.nanoTime(), List.of());
        server.start();
    }

    @AfterEach
    void stop() {
        server.kill();
    }

    @Test
    void the_blocks_of_the_readme_run_one_after_the_other_and_print_what_they_show() throws Exception {
        String readme = Files.readString(Surroundings.CLIENT.resolve("README.md"));
        List<String> blocks = BLOCK.matcher(readme).results().map(found -> found.group(1)).toList();
        assertTrue(blocks.size() > 5);
        String code = String.join("\n", blocks).replace("127.0.0.1:5000", server.address());
        List<String> imports = IMPORT.matcher(code).results().map(MatchResult::group).toList();
        Path program = folder.resolve("Readme.java");
        Files.writeString(program, """
                %s
                public class Readme {
                    public static void main(String[] arguments) throws Exception {
                        %s
                    }
                }
                """.formatted(String.join("", imports), IMPORT.matcher(code).replaceAll("")));
        Process process = java(program.toString());
        List<String> lines = process.inputReader(StandardCharsets.UTF_8).lines().toList();
        assertEquals(PRINTED.matcher(code).results().map(found -> found.group(1)).toList(), lines);
        assertEquals(0, process.waitFor());
    }

    @Test
    void the_example_continues_after_a_restart_of_the_server() throws Exception {
        Process process = java("Example", server.address());
        try (BufferedReader output = process.inputReader(StandardCharsets.UTF_8)) {
            assertEquals(
                    List.of(
                            "readiness: SERVING",
                            "placed: ORDER_STATUS_PENDING",
                            "refused: FAILED_PRECONDITION ILLEGAL_TRANSITION Pending",
                            "paid: ORDER_STATUS_PAID - the retry got the first answer: true",
                            "event: 1 ORDER_CREATED",
                            "event: 2 ORDER_PAID",
                            "restart the service if you like, then press Enter"),
                    lines(output, 7));
            server.stop();
            server.start();
            process.getOutputStream().write('\n');
            process.getOutputStream().flush();
            assertEquals(
                    List.of("event: 3 ORDER_SHIPPED", "event: 4 ORDER_DELIVERED", "too late: DEADLINE_EXCEEDED"),
                    output.lines().toList());
            assertTrue(process.waitFor(30, TimeUnit.SECONDS));
            assertEquals(0, process.exitValue());
        }
    }

    /** Runs a program with the classes of the tests; what it says of errors comes with its output. */
    private static Process java(String... program) throws IOException {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
        command.addAll(List.of("-classpath", System.getProperty("java.class.path")));
        command.addAll(List.of(program));
        return Surroundings.guarded(new ProcessBuilder(command).redirectErrorStream(true).start());
    }

    private static List<String> lines(BufferedReader output, int count) throws IOException {
        List<String> lines = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            lines.add(output.readLine());
        }
        return lines;
    }
}
