import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import io.strimzi.api.kafka.model.common.UnknownPropertyPreserving;
import io.strimzi.api.kafka.model.topic.KafkaTopic;
import io.strimzi.api.kafka.model.user.KafkaUser;
import java.lang.reflect.Method;
import java.util.Collection;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** Reads resources from standard input by Strimzi's own types, and tells each field and word that they do not know. */
public class Unknown {
    static final Map<String, Class<?>> TYPES = Map.of("KafkaTopic", KafkaTopic.class, "KafkaUser", KafkaUser.class);
    static final Set<String> FOUND = new TreeSet<>();

    public static void main(String[] arguments) throws Exception {
        ObjectMapper mapper = new ObjectMapper(new YAMLFactory());
        try (MappingIterator<JsonNode> documents = mapper.readerFor(JsonNode.class).readValues(System.in)) {
            while (documents.hasNext()) {
                JsonNode document = documents.next();
                Object resource = mapper.treeToValue(document, TYPES.get(document.get("kind").asText()));
                look(resource, document.get("metadata").get("name").asText());
            }
        }
        FOUND.forEach(System.out::println);
        System.exit(FOUND.isEmpty() ? 0 : 1);
    }

    static void look(Object value, String path) throws ReflectiveOperationException {
        if (value instanceof Collection<?> items) {
            int place = 0;
            for (Object item : items) {
                if (item == null) {
                    FOUND.add(path + "[" + place + "]: unknown");  // a word that an enum has not is read as null
                }
                look(item, path + "[" + place++ + "]");
            }
            return;
        }
        if (value == null || value instanceof Enum<?> || !value.getClass().getName().startsWith("io.strimzi")) {
            return;
        }
        if (value instanceof UnknownPropertyPreserving kept && kept.getAdditionalProperties() != null) {
            kept.getAdditionalProperties().keySet().forEach(name -> FOUND.add(path + "." + name + ": unknown"));
        }
        for (Method method : value.getClass().getMethods()) {
            String name = method.getName();
            boolean isField = name.startsWith("get") && method.getParameterCount() == 0;
            if (isField && !name.equals("getClass") && !name.equals("getAdditionalProperties")) {
                look(method.invoke(value), path + "." + name.substring(3, 4).toLowerCase() + name.substring(4));
            }
        }
    }
}
