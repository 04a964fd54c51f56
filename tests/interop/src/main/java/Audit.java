import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Reads every queue of a topic from offset 0 to its end: messages 0..COUNT of {@link Sequence}, each once, offsets without
 * gap, and prints where each one is. Arguments, output and exit codes: README.md.
 */
@SuppressWarnings("deprecation") // the one client that reads by queue and offset and nothing else
public final class Audit {
    private static final long ROUTE_WAIT_MS = 20_000;
    private static final int KEY_STEP = 97;

    private final DefaultMQPullConsumer consumer;
    private final String topic;
    private final BitSet seen = new BitSet();

    private Audit(DefaultMQPullConsumer consumer, String topic) {
        this.consumer = consumer;
        this.topic = topic;
    }

    public static void main(String[] args) throws Exception {
        Thread.currentThread().setUncaughtExceptionHandler((main, failure) -> { // the client's threads would go on
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        if (args.length < 3 || args.length > 4) {
            System.err.println("usage: Audit NAMESRV TOPIC COUNT [keys]");
            System.exit(2);
        }
        int count = Integer.parseInt(args[2]);
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("audit");
        consumer.setNamesrvAddr(args[0]);
        consumer.start();
        Audit audit = new Audit(consumer, args[1]);
        for (MessageQueue queue : audit.queues()) {
            audit.read(queue);
        }
        if (audit.seen.cardinality() != count || audit.seen.length() > count) {
            throw new IllegalStateException(
                    audit.seen.cardinality() + " of " + count + " messages, first missing " + audit.seen.nextClearBit(0));
        }
        if (args.length == 4) {
            audit.queryKeys(count);
        }
        consumer.shutdown();
        System.exit(0);
    }

    private List<MessageQueue> queues() throws Exception {
        long deadline = System.nanoTime() + ROUTE_WAIT_MS * 1_000_000;
        while (true) {
            try {
                return new ArrayList<>(consumer.fetchSubscribeMessageQueues(topic));
            } catch (MQClientException noRoute) {
                if (System.nanoTime() > deadline) {
                    throw noRoute;
                }
                Thread.sleep(50);
            }
        }
    }

    private void read(MessageQueue queue) throws Exception {
        long end = consumer.maxOffset(queue);
        long offset = 0;
        while (offset < end) {
            PullResult result = consumer.pull(queue, "*", offset, 32);
            if (result.getPullStatus() != PullStatus.FOUND) {
                throw new IllegalStateException(queue + " at " + offset + " of " + end + ": " + result);
            }
            for (MessageExt message : result.getMsgFoundList()) {
                int i = Sequence.verify(message);
                if (message.getQueueOffset() != offset) {
                    throw new IllegalStateException(queue + " has offset " + message.getQueueOffset() + " at " + offset);
                }
                if (seen.get(i)) {
                    throw new IllegalStateException("message " + i + " is there twice");
                }
                seen.set(i);
                offset++;
                System.out.printf("%s %d %d message %d position %d stored %d%n", topic, queue.getQueueId(),
                        message.getQueueOffset(), i, message.getCommitLogOffset(), message.getStoreTimestamp());
            }
        }
    }

    /** Some of the keys, from the first message to the last. */
    private void queryKeys(int count) throws Exception {
        for (int i = 0; i < count; i += KEY_STEP) {
            QueryResult result = consumer.queryMessage(topic, "k" + i, 32, 0, Long.MAX_VALUE);
            if (result.getMessageList().size() != 1 || Sequence.verify(result.getMessageList().get(0)) != i) {
                throw new IllegalStateException("key k" + i + " finds " + result.getMessageList());
            }
        }
    }
}
