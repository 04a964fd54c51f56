import java.util.BitSet;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A push consumer that wants messages 0..COUNT of {@link Sequence}, whole and each exactly once.
 * Arguments, output and exit codes: README.md.
 */
public final class Consume {
    private final int count;
    private final BitSet seen = new BitSet();
    private int received;
    private int distinct;
    private int corrupt;
    private final long start = System.nanoTime();
    private long lastArrival = start;

    private Consume(int count) {
        this.count = count;
    }

    public static void main(String[] args) throws Exception {
        Thread.currentThread().setUncaughtExceptionHandler((main, failure) -> { // the client's threads would go on
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        if (args.length < 5 || args.length > 6) {
            System.err.println("usage: Consume NAMESRV TOPIC GROUP COUNT TIMEOUT_S [IDLE_AFTER_MS]");
            System.exit(2);
        }
        Consume consume = new Consume(Integer.parseInt(args[3]));
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(args[2]);
        consumer.setNamesrvAddr(args[0]);
        consumer.setMqClientApiTimeout(15_000);
        // The first heartbeat, without which there is nothing to pull, is left out if the timer's is under way.
        consumer.setHeartbeatBrokerInterval(1_000);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(args[1], "*");
        consumer.registerMessageListener(consume::arrived);
        consumer.start();
        System.out.println("started");
        long idleMs = args.length == 6 ? Long.parseLong(args[5]) : 1000;
        boolean exact = consume.await(TimeUnit.SECONDS.toNanos(Long.parseLong(args[4])), TimeUnit.MILLISECONDS.toNanos(idleMs));
        consumer.shutdown();
        System.exit(exact ? 0 : 1);
    }

    private synchronized ConsumeConcurrentlyStatus arrived(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
        for (MessageExt message : messages) {
            received++;
            try {
                int i = Sequence.verify(message);
                if (seen.get(i)) {
                    System.err.println("duplicate " + i + " " + message.getMsgId());
                } else {
                    seen.set(i);
                    distinct++;
                }
            } catch (RuntimeException e) {
                corrupt++;
                System.err.println("corrupt " + message.getMsgId() + " " + e.getMessage());
            }
        }
        lastArrival = System.nanoTime();
        notifyAll();
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    /** Waits until all are here and nothing more has come for {@code idle}, or until {@code timeout}; reports. */
    private synchronized boolean await(long timeout, long idle) throws InterruptedException {
        long ready = System.nanoTime();
        long deadline = ready + timeout;
        for (long wait = 1; wait > 0; ) {
            long now = System.nanoTime();
            wait = (distinct < count ? deadline : Math.min(deadline, Math.max(lastArrival, ready) + idle)) - now;
            if (wait > 0) {
                TimeUnit.NANOSECONDS.timedWait(this, wait);
            }
        }
        int duplicates = received - corrupt - distinct;
        System.out.printf("received %d distinct %d duplicates %d corrupt %d ms %d%n",
                received, distinct, duplicates, corrupt, TimeUnit.NANOSECONDS.toMillis(lastArrival - start));
        return received == count && distinct == count && seen.length() == count;
    }
}
