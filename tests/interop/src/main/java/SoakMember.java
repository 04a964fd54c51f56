import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A member of the two groups of the program {@code soak}: writes a line for each message it has handled to standard output, and
 * leaves gracefully when standard input ends. The lines are those of {@code tests/src/bin/soak/journal.rs}.
 */
public final class SoakMember {
    private static final int BODY_BYTES = 128;

    /** One line is one write, so that no line comes into that of another process. */
    private static final FileOutputStream JOURNAL = new FileOutputStream(FileDescriptor.out);

    private SoakMember() {}

    public static void main(String[] args) throws Exception {
        if (args.length != 2) {
            System.err.println("usage: SoakMember NAMESRV ID");
            System.exit(2);
        }
        System.setOut(System.err);
        String member = args[1];
        DefaultMQPushConsumer concurrent = started(() -> {
            DefaultMQPushConsumer consumer = consumer(args[0], "concurrent");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                handle("concurrent", member, messages);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            return consumer;
        });
        DefaultMQPushConsumer ordered = started(() -> {
            DefaultMQPushConsumer consumer = consumer(args[0], "ordered");
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                handle("ordered", member, messages);
                return ConsumeOrderlyStatus.SUCCESS;
            });
            return consumer;
        });
        write("started " + member);
        while (System.in.read() >= 0) {
            // whoever started us says nothing; the end is the sign
        }
        concurrent.shutdown();
        ordered.shutdown();
        System.exit(0);
    }

    /** Starts one that {@code made} makes, and another one when that fails: a name server may be slow or away. */
    private static DefaultMQPushConsumer started(Callable<DefaultMQPushConsumer> made) throws Exception {
        while (true) {
            DefaultMQPushConsumer consumer = made.call();
            try {
                consumer.start();
                return consumer;
            } catch (Exception e) {
                System.err.println("trying to start again: " + e);
                consumer.shutdown();
                Thread.sleep(500);
            }
        }
    }

    private static DefaultMQPushConsumer consumer(String nameServer, String name) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(name);
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAwaitTerminationMillisWhenShutdown(10_000); // without it handlers are left behind
        consumer.subscribe(name, "*");
        return consumer;
    }

    private static void handle(String group, String member, List<MessageExt> messages) {
        for (MessageExt message : messages) {
            try {
                Thread.sleep(1);
            } catch (InterruptedException stopped) {
                Thread.currentThread().interrupt();
                throw new IllegalStateException(stopped);
            }
            String[] body = new String(message.getBody(), StandardCharsets.US_ASCII).split(" ");
            boolean whole = message.getBody().length == BODY_BYTES && body.length == 3;
            write(whole ? group + " " + member + " " + body[0] + " " + body[1] : "corrupt " + member);
        }
    }

    private static void write(String line) {
        try {
            JOURNAL.write((line + "\n").getBytes(StandardCharsets.US_ASCII));
        } catch (java.io.IOException e) {
            throw new IllegalStateException(e);
        }
    }
}
