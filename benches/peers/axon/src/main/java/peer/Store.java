package peer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import org.axonframework.common.jdbc.DataSourceConnectionProvider;
import org.axonframework.common.transaction.NoTransactionManager;
import org.axonframework.eventsourcing.eventstore.EventStorageEngine;
import org.axonframework.eventsourcing.eventstore.inmemory.InMemoryEventStorageEngine;
import org.axonframework.eventsourcing.eventstore.jdbc.JdbcEventStorageEngine;
import org.axonframework.serialization.json.JacksonSerializer;

/** Where Axon keeps the events: in memory, or in a file of SQLite that is synced at each commit. */
final class Store {
    private Store() {}

    static EventStorageEngine open(String file) throws SQLException {
        if (file == null) {
            return new InMemoryEventStorageEngine();
        }
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:sqlite:" + file + "?journal_mode=WAL&synchronous=FULL");
        // SQLite has one writer at a time: more connections would only wait for each other's locks.
        config.setMaximumPoolSize(1);
        HikariDataSource source = new HikariDataSource(config);
        try (Connection connection = source.getConnection(); Statement statement = connection.createStatement()) {
            // Axon's own table, in the words of SQLite.
            statement.execute("CREATE TABLE DomainEventEntry (globalIndex INTEGER PRIMARY KEY AUTOINCREMENT,"
                    + " aggregateIdentifier TEXT NOT NULL, sequenceNumber INTEGER NOT NULL, type TEXT,"
                    + " eventIdentifier TEXT NOT NULL UNIQUE, metaData BLOB, payload BLOB NOT NULL, payloadRevision TEXT,"
                    + " payloadType TEXT NOT NULL, timeStamp TEXT NOT NULL, UNIQUE (aggregateIdentifier, sequenceNumber))");
        }
        JacksonSerializer serializer = JacksonSerializer.builder().objectMapper(new ObjectMapper()).build();
        return JdbcEventStorageEngine.builder()
                .connectionProvider(new DataSourceConnectionProvider(source))
                .transactionManager(NoTransactionManager.instance())
                .eventSerializer(serializer)
                .snapshotSerializer(serializer)
                .build();
    }
}
