import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The job on Kafka Streams: one sub-topology over both inputs, which Kafka Streams merges by event time, a store of
 * windows and a store of timers in the order of their due times. Runs until SIGTERM.
 *
 * <p>Options are system properties: bootstrap, application, prefix (of topics), state (a folder), store
 * (rocksdb or memory).
 */
public final class WindowJob {
    static final long LENGTH_MS = Duration.ofHours(24).toMillis();
    static final long WARNED_BEFORE_MS = Duration.ofHours(2).toMillis();
    static final String INBOUND = "messages.inbound", OUTBOUND = "messages.outbound";
    static final String OPENED = "window-opened", EXPIRING = "window-expiring", CLOSED = "window-closed";
    static final String REJECTED = "send-rejected";

    public static void main(String[] arguments) {
        String prefix = System.getProperty("prefix", "");
        boolean inMemory = "memory".equals(System.getProperty("store"));
        KafkaStreams streams = new KafkaStreams(topology(prefix, inMemory), settings());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
    }

    private static Properties settings() {
        Properties set = new Properties();
        set.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getProperty("application"));
        set.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getProperty("bootstrap"));
        set.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("state"));
        set.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        set.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100); // its default with this guarantee
        set.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        set.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // Waits for the other input before it goes on with one of them; without it the order by time is a hope.
        set.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, 100);
        set.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5000);
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 128 * 1024);
        return set;
    }

    private static Topology topology(String prefix, boolean inMemory) {
        Topology topology = new Topology();
        topology.addSource(
            AutoOffsetReset.earliest(), "inputs", (record, before) -> ((Input) record.value()).timeMs(),
            Serdes.String().deserializer(), INPUT, prefix + INBOUND, prefix + OUTBOUND);
        topology.addProcessor("windows", () -> new Windows(prefix + OUTBOUND), "inputs");
        // No record cache: at this commit interval it costs more than the changelog records that it saves.
        KeyValueBytesStoreSupplier windows = store("windows", inMemory), timers = store("timers", inMemory);
        topology.addStateStore(
            Stores.keyValueStoreBuilder(windows, Serdes.String(), WINDOW).withCachingDisabled(), "windows");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(timers, TIMER, Serdes.ByteArray()).withCachingDisabled(), "windows");
        for (String output : List.of(OPENED, EXPIRING, CLOSED, REJECTED))
            topology.addSink(output, prefix + output, Serdes.String().serializer(), OUTPUT, "windows");
        return topology;
    }

    private static KeyValueBytesStoreSupplier store(String name, boolean inMemory) {
        return inMemory ? Stores.inMemoryKeyValueStore(name) : Stores.persistentKeyValueStore(name);
    }

    /** What the job needs of an input. */
    record Input(String id, long timeMs) {}

    /** An output; what it has nothing to say about is null or 0. */
    record Output(String type, String id, long timeMs, long openedAt, long expiresAt, String causeId) {}

    /** A window that is open. Its one timer stands at timerAt, and is looked at then: a message moves the end only. */
    record Window(long openedAt, long expiresAt, long timerAt, boolean isWarned) {
        long dueAt() {
            return isWarned ? expiresAt : expiresAt - WARNED_BEFORE_MS;
        }
    }

    record Timer(long dueAt, String key) {}

    /** The rules. */
    static final class Windows implements Processor<String, Input, String, Output> {
        /** A scan looks so far ahead: both sorts of store pay for what lies in the range, and for each new range. */
        private static final long HORIZON_MS = Duration.ofMinutes(10).toMillis();
        private static final byte[] MARK = {1};

        private final String outbound;
        private ProcessorContext<String, Output> context;
        private KeyValueStore<String, Window> windows;
        private KeyValueStore<Timer, byte[]> timers;
        /** No timer is due before this; 0 where it is not known, as at the start. */
        private long earliestMs;

        Windows(String outbound) {
            this.outbound = outbound;
        }

        @Override
        public void init(ProcessorContext<String, Output> context) {
            this.context = context;
            windows = context.getStateStore("windows");
            timers = context.getStateStore("timers");
        }

        @Override
        public void process(Record<String, Input> record) {
            String key = record.key();
            long timeMs = record.timestamp();
            while (earliestMs <= timeMs) fire(timeMs);
            Window window = windows.get(key);
            if (context.recordMetadata().orElseThrow().topic().equals(outbound)) {
                if (window == null) {
                    String id = record.value().id();
                    String said = key + "/" + id + "/rejected";
                    say(REJECTED, key, new Output("janela.send.rejected.v1", said, timeMs, 0, 0, id));
                }
            } else if (window == null) {
                window = new Window(timeMs, timeMs + LENGTH_MS, timeMs + LENGTH_MS - WARNED_BEFORE_MS, false);
                windows.put(key, window);
                arm(window.timerAt(), key);
                String id = key + "@" + timeMs + "/opened";
                say(OPENED, key, new Output(
                    "janela.window.opened.v1", id, timeMs, timeMs, window.expiresAt(), record.value().id()));
            } else {
                long expiresAt = Math.max(window.expiresAt(), timeMs + LENGTH_MS);
                windows.put(key, new Window(window.openedAt(), expiresAt, window.timerAt(), false));
            }
        }

        /** Fires what is known to be due at a moment; earliestMs is later then, or there is more to be fired. */
        private void fire(long nowMs) {
            List<Timer> due = new ArrayList<>();
            long aheadMs = nowMs + HORIZON_MS;
            Timer from = new Timer(earliestMs, "");
            earliestMs = aheadMs;
            try (KeyValueIterator<Timer, byte[]> found = timers.range(from, new Timer(aheadMs, ""))) {
                while (found.hasNext()) {
                    Timer timer = found.next().key;
                    if (timer.dueAt() > nowMs) {
                        earliestMs = timer.dueAt();
                        break;
                    }
                    due.add(timer);
                }
            }
            due.forEach(this::onDue);
        }

        private void onDue(Timer timer) {
            timers.delete(timer);
            String key = timer.key();
            Window window = windows.get(key);
            long expiresAt = window.expiresAt(), openedAt = window.openedAt();
            boolean isWarned = window.isWarned();
            if (timer.dueAt() >= window.dueAt()) {
                if (isWarned) {
                    windows.delete(key);
                    String id = key + "@" + openedAt + "/closed";
                    say(CLOSED, key, new Output("janela.window.closed.v1", id, expiresAt, openedAt, expiresAt, null));
                    return;
                }
                isWarned = true;
                String id = key + "@" + openedAt + "/expiring/" + expiresAt + "/" + WARNED_BEFORE_MS / 1000;
                say(EXPIRING, key, new Output(
                    "janela.window.expiring.v1", id, expiresAt - WARNED_BEFORE_MS, openedAt, expiresAt, null));
            }
            long nextAt = isWarned ? expiresAt : expiresAt - WARNED_BEFORE_MS;
            windows.put(key, new Window(openedAt, expiresAt, nextAt, isWarned));
            arm(nextAt, key);
        }

        private void arm(long dueAt, String key) {
            timers.put(new Timer(dueAt, key), MARK);
            earliestMs = Math.min(earliestMs, dueAt);
        }

        private void say(String topic, String key, Output output) {
            context.forward(new Record<>(key, output, output.timeMs()), topic);
        }
    }

    private static final JsonFactory JSON = new JsonFactory();

    private static final Deserializer<Input> INPUT = (topic, bytes) -> {
        String id = null;
        long timeMs = 0;
        try (JsonParser parser = JSON.createParser(bytes)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String field = parser.currentName();
                JsonToken value = parser.nextToken();
                switch (field) {
                    case "id" -> id = parser.getText();
                    case "time" -> timeMs = value == JsonToken.VALUE_NUMBER_INT
                        ? parser.getLongValue() : Instant.parse(parser.getText()).toEpochMilli();
                    default -> parser.skipChildren();
                }
            }
        } catch (IOException cause) {
            throw new UncheckedIOException(cause);
        }
        return new Input(id, timeMs);
    };

    /** The subject is the record's key, which a serializer of values is not told; the id begins with it. */
    private static final Serializer<Output> OUTPUT = (topic, output) -> {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(384);
        try (JsonGenerator json = JSON.createGenerator(bytes)) {
            String id = output.id();
            json.writeStartObject();
            json.writeStringField("id", id);
            json.writeStringField("type", output.type());
            json.writeStringField("subject", id.substring(0, id.indexOf(output.openedAt() == 0 ? '/' : '@')));
            json.writeStringField("time", written(output.timeMs()));
            json.writeObjectFieldStart("data");
            if (output.openedAt() != 0) {
                json.writeStringField("opened_at", written(output.openedAt()));
                json.writeStringField("expires_at", written(output.expiresAt()));
                if (topic.endsWith(CLOSED)) json.writeStringField("closed_at", written(output.expiresAt()));
            } else {
                json.writeStringField("reason", "window-closed");
            }
            if (output.causeId() != null) {
                json.writeObjectFieldStart(output.openedAt() == 0 ? "send" : "cause");
                json.writeStringField("id", output.causeId());
                json.writeEndObject();
            }
            json.writeEndObject();
            json.writeEndObject();
        } catch (IOException cause) {
            throw new UncheckedIOException(cause);
        }
        return bytes.toByteArray();
    };

    /** As the contract wants it: always with three digits of a second, which Instant leaves out where they are 0. */
    private static String written(long timeMs) {
        String text = Instant.ofEpochMilli(timeMs).toString();
        return text.length() == 24 ? text : text.substring(0, 19) + ".000Z";
    }

    private static final Serde<Window> WINDOW = Serdes.serdeFrom(
        (topic, window) -> window == null ? null : ByteBuffer.allocate(25)
            .putLong(window.openedAt()).putLong(window.expiresAt()).putLong(window.timerAt())
            .put((byte) (window.isWarned() ? 1 : 0)).array(),
        (topic, bytes) -> {
            if (bytes == null) return null;
            ByteBuffer from = ByteBuffer.wrap(bytes);
            return new Window(from.getLong(), from.getLong(), from.getLong(), from.get() != 0);
        });

    /** Sorts by due time, then by key, as unsigned bytes. */
    private static final Serde<Timer> TIMER = Serdes.serdeFrom(
        (topic, timer) -> {
            byte[] key = timer.key().getBytes(StandardCharsets.UTF_8);
            return ByteBuffer.allocate(8 + key.length).putLong(timer.dueAt()).put(key).array();
        },
        (topic, bytes) -> new Timer(
            ByteBuffer.wrap(bytes).getLong(), new String(bytes, 8, bytes.length - 8, StandardCharsets.UTF_8)));
}
