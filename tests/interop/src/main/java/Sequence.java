import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.rocketmq.common.message.Message;

/**
 * What message number {@code i} looks like, so that a receiver can tell a changed message from a whole one.
 * README.md states the same for the programs in other languages.
 */
final class Sequence {
    /** Outside ASCII and outside the basic plane: UTF-8 with surrogate pairs on the Java side. */
    static final String NOTE = "naïve \uD83D\uDE80";

    private static final int BODY_BYTES = 128;
    /** Above the 4 KiB from which clients compress. */
    private static final int LONG_BODY_BYTES = 8192;

    private Sequence() {}

    static byte[] body(int i) {
        byte[] body = new byte[i % 1000 == 999 ? LONG_BODY_BYTES : BODY_BYTES];
        byte[] number = (i + " ").getBytes(StandardCharsets.US_ASCII);
        Arrays.fill(body, (byte) ('a' + i % 26));
        System.arraycopy(number, 0, body, 0, number.length);
        return body;
    }

    static Message message(String topic, int i) {
        Message message = new Message(topic, tag(i), "k" + i, body(i));
        message.putUserProperty("note", NOTE);
        return message;
    }

    /** The number of a received message; throws where any part differs from what was sent. */
    static int verify(Message message) {
        byte[] body = message.getBody();
        int digits = 0;
        while (digits < body.length && body[digits] >= '0' && body[digits] <= '9') {
            digits++;
        }
        int i = Integer.parseInt(new String(body, 0, digits, StandardCharsets.US_ASCII));
        expect("body", i, Arrays.equals(body(i), body));
        expect("tags", i, tag(i).equals(message.getTags()));
        expect("keys", i, ("k" + i).equals(message.getKeys()));
        expect("property note", i, NOTE.equals(message.getUserProperty("note")));
        return i;
    }

    private static String tag(int i) {
        return "t" + i % 4;
    }

    private static void expect(String what, int i, boolean holds) {
        if (!holds) {
            throw new IllegalArgumentException("message " + i + ": " + what + " differs");
        }
    }
}
