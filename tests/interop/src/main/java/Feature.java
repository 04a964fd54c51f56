import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.topic.TopicValidator;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/** One side of a feature: says what it sees, and judges nothing. Arguments, output and the features: README.md. */
public final class Feature {
    private static final int PATIENCE_MS = 15_000;
    private static final long LATER_MS = 2_000;
    private static final long REPLY_MS = 20_000;
    private static final long POLL_MS = 500;

    private final String name;
    private final String namesrv;
    private final String topic;
    private final String group;
    private final int count;
    /** What stops when the process is told to. */
    private final List<Runnable> running = new ArrayList<>();

    private Feature(String[] args) {
        name = args[0];
        namesrv = args[2];
        topic = args[3];
        group = args[4];
        count = Integer.parseInt(args[5]);
    }

    public static void main(String[] args) throws Exception {
        Thread.currentThread().setUncaughtExceptionHandler((main, failure) -> { // the client's threads would go on
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        if (args.length != 6) {
            System.err.println("usage: Feature NAME create|produce|consume NAMESRV TOPIC GROUP COUNT");
            System.exit(2);
        }
        Feature feature = new Feature(args);
        Runtime.getRuntime().addShutdownHook(new Thread(feature::stop));
        if (args[1].equals("create")) {
            feature.create();
            return;
        }
        if (args[1].equals("produce")) {
            feature.produce();
        } else if (args[0].startsWith("lite-")) {
            feature.poll();
        } else {
            feature.consume();
        }
        Thread.sleep(Long.MAX_VALUE);
    }

    private synchronized void stop() {
        running.forEach(Runnable::run);
        System.out.println("ended");
    }

    /** The topic; and waits until the name server knows it. */
    private void create() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        start(producer);
        producer.createTopic(TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC, topic, 4, Map.of());
        while (true) {
            try {
                producer.fetchPublishMessageQueues(topic);
                System.exit(0);
            } catch (MQClientException noRoute) {
                Thread.sleep(20);
            }
        }
    }

    private void produce() throws Exception {
        DefaultMQProducer producer = switch (name) {
            case "transaction" -> transactional();
            case "trace" -> new DefaultMQProducer(group, true, null);
            default -> new DefaultMQProducer(group);
        };
        start(producer);
        for (int i = 0; i < count; i++) {
            send(producer, i);
        }
        System.out.println("done");
    }

    private void prepare(ClientConfig client) {
        client.setNamesrvAddr(namesrv);
        client.setMqClientApiTimeout(PATIENCE_MS); // of 3 s on a busy machine the JVM takes most for itself
        // The first heartbeat, without which there is nothing to pull, is left out if the timer's is under way.
        client.setHeartbeatBrokerInterval(1_000);
        if (name.equals("namespace")) {
            client.setNamespace("tenant");
        }
    }

    private void start(DefaultMQProducer producer) throws Exception {
        prepare(producer);
        producer.setSendMsgTimeout(PATIENCE_MS);
        producer.start();
        running.add(producer::shutdown);
    }

    private void send(DefaultMQProducer producer, int i) throws Exception {
        Message message = Sequence.message(topic, i);
        message.putUserProperty("n", String.valueOf(i));
        long due = System.currentTimeMillis() + LATER_MS;
        switch (name) {
            case "delay" -> {
                message.putUserProperty("due", String.valueOf(due));
                message.setDelayTimeLevel(2);
            }
            case "timer" -> {
                message.putUserProperty("due", String.valueOf(due));
                message.setDeliverTimeMs(due);
            }
            default -> { }
        }
        SendResult sent;
        switch (name) {
            case "ordered" -> sent = producer.send(message, new SelectMessageQueueByHash(), "key" + i % 8);
            case "transaction" -> sent = producer.sendMessageInTransaction(message, i);
            case "request" -> {
                Message reply = producer.request(message, REPLY_MS);
                System.out.println("reply " + new String(reply.getBody(), StandardCharsets.UTF_8));
                return;
            }
            default -> sent = producer.send(message);
        }
        if (sent.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException("send status " + sent.getSendStatus());
        }
        System.out.println("sent " + i + " id " + sent.getMsgId() + " at " + sent.getOffsetMsgId());
        if (name.equals("timer") && i % 4 == 0) {
            producer.recallMessage(topic, sent.getRecallHandle());
            System.out.println("recalled " + i);
        }
    }

    private DefaultMQProducer transactional() {
        TransactionMQProducer producer = new TransactionMQProducer(group);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message half, Object i) {
                return switch ((int) i % 3) {
                    case 0 -> LocalTransactionState.COMMIT_MESSAGE;
                    case 1 -> LocalTransactionState.ROLLBACK_MESSAGE;
                    default -> LocalTransactionState.UNKNOW;
                };
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt half) {
                int i = Sequence.verify(half);
                System.out.println("checked " + i);
                return i % 2 == 0 ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
            }
        });
        return producer;
    }

    private void consume() throws Exception {
        DefaultMQProducer replier = new DefaultMQProducer(group);
        if (name.equals("request")) {
            start(replier);
        }
        for (int member = 1; member <= (name.equals("broadcast") ? 2 : 1); member++) {
            DefaultMQPushConsumer consumer =
                    name.equals("trace") ? new DefaultMQPushConsumer(group, true, null) : new DefaultMQPushConsumer(group);
            prepare(consumer);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            switch (name) {
                case "tags" -> consumer.subscribe(topic, "t1 || t3");
                case "sql" -> consumer.subscribe(topic,
                        MessageSelector.bySql("n BETWEEN 100 AND 199 OR (TAGS = 't2' AND n >= 300)"));
                default -> consumer.subscribe(topic, "*");
            }
            switch (name) {
                case "broadcast" -> {
                    consumer.setMessageModel(MessageModel.BROADCASTING);
                    consumer.setClientIP("127.0.0.1"); // the file of the offsets is ip@instance's
                    consumer.setInstanceName("member" + member);
                }
                case "retry" -> consumer.setMaxReconsumeTimes(3);
                case "ordered" -> consumer.setSuspendCurrentQueueTimeMillis(100);
                default -> { }
            }
            String whose = " member " + member;
            if (name.equals("ordered")) {
                consumer.registerMessageListener((MessageListenerOrderly) (List<MessageExt> messages, ConsumeOrderlyContext context) ->
                        handle(messages.get(0), whose, replier) ? ConsumeOrderlyStatus.SUCCESS
                                : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT);
            } else {
                consumer.registerMessageListener((MessageListenerConcurrently) (List<MessageExt> messages, ConsumeConcurrentlyContext context) ->
                        handle(messages.get(0), whose, replier) ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS
                                : ConsumeConcurrentlyStatus.RECONSUME_LATER);
            }
            consumer.start();
            running.add(0, consumer::shutdown);
        }
        System.out.println("started");
    }

    /** Whether it is done. */
    private boolean handle(MessageExt message, String whose, DefaultMQProducer replier) {
        int i = Sequence.verify(message);
        int times = message.getReconsumeTimes();
        boolean done = switch (name) {
            case "retry" -> i % 10 != 9 && times >= i % 3;
            case "ordered" -> i % 40 != 7 || times >= 2;
            default -> true;
        };
        if (name.equals("request")) {
            try {
                byte[] body = String.valueOf(i).getBytes(StandardCharsets.UTF_8);
                replier.send(MessageUtil.createReplyMessage(message, body));
            } catch (Exception refused) {
                throw new IllegalStateException(refused);
            }
        }
        String due = message.getUserProperty("due");
        long late = due == null ? 0 : System.currentTimeMillis() - Long.parseLong(due);
        System.out.println((done ? "got " : "failed ") + i + " times " + times + " late " + late + whose);
        return done;
    }

    /** {@code lite-first} polls half of the messages and commits; {@code lite-rest} polls so many, then from the begin, without end. */
    private void poll() throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group);
        prepare(consumer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        consumer.subscribe(topic, "*");
        consumer.start();
        running.add(consumer::shutdown);
        boolean first = name.equals("lite-first");
        poll(consumer, "got ", first ? count / 2 : count);
        consumer.commit();
        System.out.println("done");
        if (!first) {
            for (MessageQueue queue : consumer.assignment()) {
                consumer.seekToBegin(queue);
            }
            poll(consumer, "again ", Integer.MAX_VALUE);
        }
    }

    private void poll(DefaultLitePullConsumer consumer, String word, int wanted) {
        for (int polled = 0; polled < wanted && consumer.isRunning(); ) {
            List<MessageExt> messages = consumer.poll(POLL_MS);
            polled += messages.size();
            messages.forEach(message -> System.out.println(word + Sequence.verify(message)));
        }
    }
}
