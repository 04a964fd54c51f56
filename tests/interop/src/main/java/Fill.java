import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/** Sends messages FROM..TO of {@link Sequence}, one after the other or in batches. Arguments, output and exit codes: README.md. */
public final class Fill {
    private static final long ROUTE_WAIT_MS = 20_000;

    private Fill() {}

    public static void main(String[] args) throws Exception {
        Thread.currentThread().setUncaughtExceptionHandler((main, failure) -> { // the client's threads would go on
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        if (args.length != 5) {
            System.err.println("usage: Fill NAMESRV TOPIC FROM TO BATCH");
            System.exit(2);
        }
        String topic = args[1];
        int from = Integer.parseInt(args[2]);
        int to = Integer.parseInt(args[3]);
        int batch = Integer.parseInt(args[4]);
        DefaultMQProducer producer = new DefaultMQProducer("fill");
        producer.setNamesrvAddr(args[0]);
        producer.setSendMsgTimeout(15_000);
        producer.start();
        for (int i = from; i < to; i += batch) {
            List<Message> messages = new ArrayList<>();
            for (int j = i; j < Math.min(i + batch, to); j++) {
                messages.add(Sequence.message(topic, j));
            }
            SendResult result = i == from ? first(producer, messages) : send(producer, messages);
            if (result.getSendStatus() != SendStatus.SEND_OK) {
                throw new IllegalStateException("send status " + result.getSendStatus());
            }
        }
        producer.shutdown();
        System.out.printf("filled %d%n", to - from);
        System.exit(0);
    }

    private static SendResult send(DefaultMQProducer producer, List<Message> messages) throws Exception {
        return messages.size() == 1 ? producer.send(messages.get(0)) : producer.send(messages);
    }

    /** A broker that has just started may not be known to the name server yet; nothing is sent without a route. */
    private static SendResult first(DefaultMQProducer producer, List<Message> messages) throws Exception {
        long deadline = System.nanoTime() + ROUTE_WAIT_MS * 1_000_000;
        while (true) {
            try {
                return send(producer, messages);
            } catch (MQClientException | IllegalStateException noRoute) { // the latter: the name server took too long
                if (System.nanoTime() > deadline) {
                    throw noRoute;
                }
                Thread.sleep(50);
            }
        }
    }
}
