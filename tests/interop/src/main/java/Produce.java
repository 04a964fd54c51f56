import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/** Sends messages 0..COUNT of {@link Sequence}, each once. Arguments, output and exit codes: README.md. */
public final class Produce {
    private static final int BATCH = 32;
    private static final long ROUTE_WAIT_MS = 30_000;

    private final DefaultMQProducer producer;
    private final String topic;
    private final String mode;
    private final int count;
    /** Message 0 goes alone, before the threads start. */
    private final AtomicInteger next = new AtomicInteger(1);
    private final AtomicInteger sent = new AtomicInteger();
    private final AtomicInteger failed = new AtomicInteger();

    private Produce(DefaultMQProducer producer, String topic, int count, String mode) {
        this.producer = producer;
        this.topic = topic;
        this.count = count;
        this.mode = mode;
    }

    public static void main(String[] args) throws Exception {
        Thread.currentThread().setUncaughtExceptionHandler((main, failure) -> { // the client's threads would go on
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        if (args.length < 5 || args.length > 6) {
            System.err.println("usage: Produce NAMESRV TOPIC GROUP COUNT THREADS [sync|batch|oneway]");
            System.exit(2);
        }
        DefaultMQProducer producer = new DefaultMQProducer(args[2]);
        producer.setNamesrvAddr(args[0]);
        // A send that times out may have been stored, and its retry is a duplicate: on a busy machine, rather wait.
        producer.setSendMsgTimeout(15_000);
        producer.setMqClientApiTimeout(15_000);
        producer.start();
        int failed = new Produce(producer, args[1], Integer.parseInt(args[3]), args.length == 6 ? args[5] : "sync")
                .run(Integer.parseInt(args[4]));
        producer.shutdown();
        System.exit(failed == 0 ? 0 : 1);
    }

    private int run(int threads) throws Exception {
        long start = System.nanoTime();
        sendFirst();
        System.out.println("started");
        List<Thread> running = new ArrayList<>();
        for (int t = 0; t < threads; t++) {
            Thread thread = new Thread(this::sendRest, "produce-" + t);
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) {
            thread.join();
        }
        long ms = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
        System.out.printf("sent %d failed %d ms %d%n", sent.get(), failed.get(), ms);
        return failed.get();
    }

    /**
     * Waits for routes: a broker that has just started may not be known to the name server yet, nor the topic that
     * message 0 created; a consumer that starts before that looks again only after 20 s.
     */
    private void sendFirst() throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ROUTE_WAIT_MS);
        while (true) {
            try {
                if (sent.get() == 0) {
                    sendSync(0);
                }
                producer.fetchPublishMessageQueues(topic);
                return;
            } catch (MQClientException | IllegalStateException noRoute) { // the latter: the name server took too long
                if (System.nanoTime() > deadline) {
                    throw noRoute;
                }
                Thread.sleep(20);
            }
        }
    }

    private void sendRest() {
        int step = mode.equals("batch") ? BATCH : 1;
        for (int i = next.getAndAdd(step); i < count; i = next.getAndAdd(step)) {
            int end = Math.min(i + step, count);
            try {
                send(i, end);
            } catch (Exception e) {
                failed.addAndGet(end - i);
                System.err.println("failed " + i + ".." + end + " " + e);
            }
        }
    }

    private void send(int i, int end) throws Exception {
        switch (mode) {
            case "sync" -> sendSync(i);
            case "batch" -> {
                List<Message> batch = new ArrayList<>(end - i);
                for (int j = i; j < end; j++) {
                    batch.add(Sequence.message(topic, j));
                }
                requireStored(producer.send(batch));
                sent.addAndGet(end - i);
            }
            case "oneway" -> {
                // Acknowledged last message: what was written to the connection before it has left this process.
                if (end == count) {
                    sendSync(i);
                } else {
                    producer.sendOneway(Sequence.message(topic, i));
                    sent.incrementAndGet();
                }
            }
            default -> throw new IllegalArgumentException("unknown mode " + mode);
        }
    }

    private void sendSync(int i) throws Exception {
        requireStored(producer.send(Sequence.message(topic, i)));
        sent.incrementAndGet();
    }

    private static void requireStored(SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException("send status " + result.getSendStatus());
        }
    }
}
