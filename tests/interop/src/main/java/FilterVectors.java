import java.nio.charset.StandardCharsets;
import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.util.BloomFilter;

/**
 * Prints what RocketMQ's filter module makes of SQL92 expressions: {@code rocketmq-broker-lite/tests/golden/sql92.json}.
 * The first expressions are written by hand, one for each rule; the rest are random sequences of tokens.
 */
public final class FilterVectors {
    private static final int RANDOM = 900;

    private static final Map<String, Map<String, String>> MESSAGES = new LinkedHashMap<>();

    static {
        MESSAGES.put("full", Map.of(
            "a", "5", "c", "7", "s", "hello", "f", "true", "d", "5.0", "e", "", "color", "red", "TAGS", "tag", "KEYS", "k1 k2"));
        MESSAGES.put("none", Map.of());
        MESSAGES.put("odd", Map.of(
            "a", "-3", "b", "9223372036854775807", "c", "3.5e2", "d", " 7.25 ", "f", "TRUE", "s", "it's", "color", "Rot", "x", "NaN", "e", "1f"));
    }

    private static final String EXPRESSIONS = """
        a > 3
        a >= 3.5
        a < 5
        a <= 5
        a = 5
        a = '5'
        a <> 5
        b <> 5
        b = 5
        a > b
        a > c
        c > a
        c >= a
        s > a
        a = c
        b = y
        b <> y
        y = z
        y <> z
        y > z
        a = a
        d = a
        a = d
        s = s
        b IS NULL
        b IS NOT NULL
        a IS NULL
        a IS NOT NULL
        e IS NULL
        a is null
        a iS nOt NuLl
        a IS TRUE
        a IS NOT TRUE
        a IS
        a IS NOT
        a IS NULL IS NULL
        b IS NULL IS NOT NULL
        a IS NULL = TRUE
        a IS NULL NOT x
        NULL IS NULL
        5 IS NULL
        'x' IS NOT NULL
        TRUE IS NULL
        (a > 3) IS NULL
        (b > 3) IS NULL
        a BETWEEN 1 AND 9
        a BETWEEN 5 AND 5
        a BETWEEN 9 AND 1
        a BETWEEN -9 AND -1
        a BETWEEN -1 AND -9
        a BETWEEN -9 AND 1
        a NOT BETWEEN 1 AND 4
        a NOT BETWEEN 9 AND 1
        a NOT BETWEEN 1 AND 9
        b BETWEEN 1 AND 9
        b NOT BETWEEN 1 AND 9
        s BETWEEN 1 AND 9
        a BETWEEN 1 AND 9.5
        a BETWEEN 1.5 AND 9
        a BETWEEN 9.5 AND 9
        a BETWEEN 3000000000 AND 4
        a BETWEEN 4 AND 3000000000
        a BETWEEN '1' AND '9'
        a BETWEEN 1 AND '9'
        a BETWEEN NULL AND 9
        a BETWEEN FALSE AND TRUE
        a BETWEEN b AND 9
        a BETWEEN 1 AND b
        a BETWEEN 9 AND b
        a BETWEEN c AND 1
        c BETWEEN a AND 9
        c BETWEEN 9 AND a
        5 BETWEEN a AND c
        5 BETWEEN 1 AND 9
        TRUE BETWEEN 1 AND 9
        a BETWEEN 1 AND 9 AND f
        a BETWEEN 1 AND 9 OR f = TRUE
        a BETWEEN 1
        a BETWEEN 1 9
        a BETWEEN AND 9
        a IN ('5','6')
        a IN ('5')
        a IN ('6')
        a NOT IN ('5')
        a NOT IN ('6')
        b IN ('5')
        b NOT IN ('5')
        a IN (5)
        a IN ()
        a IN ('5',)
        a IN '5'
        a IN ('5'
        '5' IN ('5')
        5 IN ('5')
        (a) IN ('5')
        (a = 5) IN ('5')
        color IN ('a','b','c','d','e','f','red')
        color NOT IN ('a','b','c','d','e','f','red')
        s IN ('it''s')
        e IN ('')
        a IN ('5') IN ('6')
        a IN ('5') = TRUE
        s CONTAINS 'el'
        s CONTAINS 'EL'
        s CONTAINS ''
        s NOT CONTAINS 'el'
        s NOT CONTAINS 'zz'
        s NOT CONTAINS ''
        b CONTAINS 'x'
        b NOT CONTAINS 'x'
        s contains 'ell' and s startswith 'h'
        s STARTSWITH 'he'
        s STARTSWITH 'el'
        s STARTSWITH ''
        s NOT STARTSWITH 'he'
        s NOT STARTSWITH 'el'
        s NOT STARTSWITH ''
        b STARTSWITH 'x'
        b NOT STARTSWITH 'x'
        s ENDSWITH 'lo'
        s ENDSWITH 'll'
        s ENDSWITH ''
        s NOT ENDSWITH 'lo'
        s NOT ENDSWITH 'll'
        b NOT ENDSWITH 'x'
        s CONTAINS 5
        s CONTAINS color
        s CONTAINS
        'hello' CONTAINS 'ell'
        5 CONTAINS '5'
        5 NOT CONTAINS '5'
        NULL CONTAINS 'x'
        (a = 5) CONTAINS 't'
        (a = 5) NOT CONTAINS 't'
        (d = 5) CONTAINS ''
        (d = 5) CONTAINS 'x'
        s CONTAINS 'he' CONTAINS 'lo'
        -a CONTAINS '5'
        e CONTAINS 'x'
        KEYS CONTAINS 'k1'
        TAGS = 'tag'
        tags = 'tag'
        a LIKE '5'
        s LIKE 'he%'
        a
        f
        b
        TRUE
        FALSE
        NULL
        5
        'x'
        5.5
        -a
        -5
        (a)
        (TRUE)
        ((a > 3))
        NOT a
        NOT b
        NOT f
        NOT TRUE
        NOT NULL
        NOT NOT a
        NOT 5
        NOT 'x'
        NOT (a > 3)
        NOT (b = 5)
        NOT a = 5
        NOT f = TRUE
        NOT b > 3
        NOT a > 3
        NOT b IS NULL
        NOT (b IS NULL)
        NOT a IN ('5')
        NOT s CONTAINS 'el'
        NOT a BETWEEN 1 AND 9
        a NOT 5
        a NOT
        f AND a = 5
        f OR a = 5
        f = TRUE
        f = true
        f <> TRUE
        f = FALSE
        TRUE = f
        FALSE = f
        TRUE = b
        b = TRUE
        a = TRUE
        s = FALSE
        TRUE = TRUE
        TRUE = FALSE
        TRUE <> FALSE
        TRUE = 5
        5 = TRUE
        'x' = TRUE
        'true' = TRUE
        TRUE = 'true'
        NULL = NULL
        a = NULL
        NULL = a
        a <> NULL
        5 = 5
        5 = 5.0
        5.0 = 5
        5 = 5L
        5L = 5
        5L = 5.0
        5 = '5'
        '5' = 5
        '5' = '5'
        'x' = 'x'
        'x' = 'X'
        'x' <> 'y'
        5 > 3
        3 > 5
        5 > 'x'
        a > 'x'
        a > '3'
        '3' > a
        a > TRUE
        TRUE > a
        a > NULL
        a > (b = 5)
        (b = 5) > a
        a > 3 = TRUE
        a > 3 > 2
        (a > 3) = TRUE
        (a > 3) = f
        f = (a > 3)
        (a > 3) = (c > 3)
        (a > 3) = 1
        1 = (a > 3)
        (a > 3) = 'true'
        'true' = (a > 3)
        (b > 3) = TRUE
        TRUE = (b > 3)
        a = 5 = TRUE
        a = 5 = f
        a = 5 <> FALSE
        a = 5 AND a <> 6 AND a > 4
        b > 3 OR a = 5
        b > 3 AND a = 5
        a = 5 OR b > 3
        a = 5 AND b > 3
        a = 6 AND b > 3
        b = 5 OR TRUE
        b = 5 AND FALSE
        b = 5 OR FALSE
        b = 5 AND TRUE
        b = 1 OR NOT f
        a = 5 OR a = 6 AND a = 7
        (a = 5 OR a = 6) AND a = 7
        a = 5 AND b = 1 OR c = 7
        d = 5 OR a = 5
        a = 5 OR d = 5
        d = 5 AND a = 6
        a = 6 AND d = 5
        b = 1 AND d = 5
        b = 1 OR d = 5
        d = 5
        d = 5.0
        d > 5
        d > 4.5
        d >= 5.0
        d < 7.5
        a = 5.0
        a = .5
        a = 5.
        a = 5.5E1
        a > 5E0
        a > 5e-1
        a > 5E
        a > 1E400
        a > 1E-400
        a > 0.0
        a > 0
        a > -0.0
        c = 350.0
        c > 349
        x = 1.5
        x > 1.5
        x > c
        e > 0
        e > 0.5
        e = ''
        a = 5L
        a = 5l
        a = 0L
        a = 007
        a = 5 5
        a > 2147483647
        a > 2147483648
        a > -2147483648
        a > 9223372036854775807
        a > 9223372036854775808
        a > 99999999999999999999
        b = 9223372036854775807
        b > 3
        b > 3L
        b > 2147483648
        b > 1.5
        a = -3
        a = - 3
        a = --3
        a = +5
        a = + + 5
        a = -+5
        a = +-3
        a > -3
        a < -2.5
        -a > -9
        -a = -5
        -5 = a
        -5 < a
        +a = 5
        -'x' = 5
        -'x' > 5
        -TRUE = TRUE
        -(a = 5) = TRUE
        -(a = 5) IS NULL
        -(d = 5) IS NULL
        -5 IS NULL
        -5 AND TRUE
        a+1 > 3
        a + 1 > 3
        a - 1 = 4
        a * 2 = 10
        a / 2 = 10
        a % 2 = 1
        5 = a
        5 < a
        5 <= a
        5 >= a
        5 <> a
        a == 5
        a != 5
        a >< 5
        a => 5
        a =
        = 5
        a > 3 AND
        a > 3 OR
        AND a
        OR
        (a > 3
        a > 3)
        ()
        (a > 3))
        ((a > 3)
        a > 3 garbage
        a > 3 garbage ;
        a > 3 garbage '
        a > 3; drop
        a > 3 ;
        a > 3 ,
        a > 3 AND b = 5 garbage
        a > 3 TRUE
        a > 3 5 ; 6
        a > 3 NOT ;
        a = 5 NOT x
        a.b = 1
        a . b = 1
        `a` > 3
        "a" > 3
        $x IS NULL
        _x IS NULL
        a1 IS NULL
        1a IS NULL
        a-b IS NULL
        a_b$c IS NULL
        ä IS NULL
        s = 'ä'
        s <> '日本'
        A > 3
        AND > 3
        nothing IS NULL
        android IS NULL
        inn IS NULL
        a > 3 and color = 'red'
        a > 3 AND color = 'red' OR a IS NULL
        color = 'red'
        color <> 'red'
        s = 'it''s'
        s = 'hello
        s = hello'
        s = ''
        s = ''''
        s = 'it's
        s = 'hello''
        s = 'a''b
        a = 5 -- tail
        a = 5 -- tail\\n
        a = 5 -- tail\\n AND b = 1
        a = -- x\\n 5
        /* c */ a = 5
        a /* AND b */ = 5
        a = /**/ 5
        a = /***/ 5
        a = /*/ 5
        a = 5 /* open
        a = 5 /* x * / */
        a\\t=\\n5
        a\\f=\\r5
        a=5
        a>3AND b IS NULL
        a>3ANDb IS NULL
        a>3OR TRUE
        a = 5AND TRUE
        s='hello'AND TRUE
        (a=5)AND(TRUE)
        a IN('5')
        NOT(a=5)
        NOT-a IS NULL
        a <>5
        a < >5
        a < = 5
        a > = 5
        a=\\u00a05
        (((((((((((((((a > 3)))))))))))))))
        NOT NOT NOT NOT NOT (a > 3)
        a = 1 OR a = 2 OR a = 3 OR a = 4 OR a = 5 OR a = 6
        a <> 1 AND a <> 2 AND a <> 3 AND a <> 4 AND a <> 6
        a > 3 AND (color = 'red' OR color = 'Rot') AND NOT (s CONTAINS 'zz')
        a BETWEEN 0 AND 10 AND b IS NULL AND color IN ('red', 'blue')
        """;

    private static final String[] TOKENS = {
        "a", "b", "c", "d", "e", "f", "s", "x", "color", "a", "b", "s",
        "5", "0", "3000000000", "2.5", "0.0", "'5'", "'hello'", "''", "TRUE", "FALSE", "NULL",
        "=", "<>", ">", ">=", "<", "<=", "=", ">", "AND", "OR", "AND", "OR", "NOT", "IS NULL", "IS NOT NULL",
        "IN ('5', 'red')", "NOT IN ('5')", "CONTAINS 'e'", "NOT CONTAINS 'e'", "STARTSWITH 'h'", "NOT STARTSWITH 'h'",
        "ENDSWITH 'o'", "NOT ENDSWITH 'o'", "BETWEEN 1 AND 9", "NOT BETWEEN a AND c", "BETWEEN", "(", ")", "(", ")", "-", "+", ";", ",",
    };

    private FilterVectors() {}

    public static void main(String[] args) throws Exception {
        Set<String> expressions = new LinkedHashSet<>();
        for (String line : EXPRESSIONS.split("\\R")) {
            expressions.add(line.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r").replace("\\f", "\f").replace("\\u00a0", "\u00a0"));
        }
        expressions.add("");
        expressions.add("   ");
        // Most random sequences are refused; of those not more than half are kept.
        Random random = new Random(92);
        int kept = 0;
        int refused = 0;
        while (kept < RANDOM) {
            String expression = sentence(random);
            boolean wrong = compiled(expression) == null;
            if (wrong && refused >= RANDOM / 2 || !expressions.add(expression)) {
                continue;
            }
            kept++;
            refused += wrong ? 1 : 0;
        }
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        out.println("{");
        out.println("\"messages\": {");
        int left = MESSAGES.size();
        for (Map.Entry<String, Map<String, String>> message : MESSAGES.entrySet()) {
            out.printf("%s: {", text(message.getKey()));
            String comma = "";
            for (Map.Entry<String, String> property : new java.util.TreeMap<>(message.getValue()).entrySet()) {
                out.printf("%s%s: %s", comma, text(property.getKey()), text(property.getValue()));
                comma = ", ";
            }
            out.println(--left == 0 ? "}" : "},");
        }
        out.println("},\n\"expressions\": [");
        left = expressions.size();
        for (String expression : expressions) {
            Expression compiled = compiled(expression);
            StringBuilder line = new StringBuilder("[").append(text(expression));
            if (compiled != null) {
                for (Map<String, String> message : MESSAGES.values()) {
                    line.append(", ").append(text(value(compiled, message)));
                }
            }
            out.println(line.append(--left == 0 ? "]" : "],"));
        }
        out.println("],\n\"bloom\": [");
        BloomFilter bloom = BloomFilter.createByFn(20, 32); // the defaults of BrokerConfig
        String[] names = {"GID_SQL#TagTopic", "g#t", "", "group#a-topic-with-a-name-of-some-length", "gruppe#日本"};
        for (int i = 0; i < names.length; i++) {
            out.printf("[%s, %d, %s]%s%n", text(names[i]), bloom.getM(),
                java.util.Arrays.toString(bloom.generate(names[i]).getBitPos()), i + 1 < names.length ? "," : "");
        }
        out.println("]\n}");
        out.flush();
        System.exit(0);
    }

    private static String sentence(Random random) {
        StringBuilder sentence = new StringBuilder();
        int length = 1 + random.nextInt(10);
        for (int i = 0; i < length; i++) {
            sentence.append(i == 0 ? "" : " ").append(TOKENS[random.nextInt(TOKENS.length)]);
        }
        return sentence.toString();
    }

    /** Null if it is refused. */
    private static Expression compiled(String expression) {
        try {
            return FilterFactory.INSTANCE.get("SQL92").compile(expression);
        } catch (Throwable refused) {
            return null;
        }
    }

    private static String value(Expression expression, Map<String, String> properties) {
        EvaluationContext message = new EvaluationContext() {
            @Override
            public Object get(String name) {
                return properties.get(name);
            }

            @Override
            public Map<String, Object> keyValues() {
                return null;
            }
        };
        try {
            return String.valueOf(expression.evaluate(message));
        } catch (Throwable thrown) {
            return "thrown";
        }
    }

    private static String text(String value) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
