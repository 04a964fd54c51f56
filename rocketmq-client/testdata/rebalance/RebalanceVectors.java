import java.io.PrintWriter;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.common.message.MessageQueue;

/** Writes how the real classes divide queues; see README.md. Usage: java RebalanceVectors OUTFILE */
public class RebalanceVectors {
    static final int MEMBERS = 50;
    static final int QUEUES = 200;
    static final int[][] FULL = {{1, 1}, {1, 7}, {3, 8}, {4, 4}, {5, 3}, {7, 20}, {10, 33}, {50, 60}};

    /** Queue k of n: its broker tells the room, and queues of one broker have rising ids. */
    static List<MessageQueue> queues(int n) {
        List<MessageQueue> queues = new ArrayList<>();
        for (int k = 0; k < n; k++) {
            queues.add(new MessageQueue("T", "room" + k % 4 + "@broker", k / 4));
        }
        Collections.sort(queues);
        return queues;
    }

    static List<String> members(int c) {
        List<String> members = new ArrayList<>();
        for (int i = 0; i < c; i++) {
            members.add("10.0." + i % 3 + "." + i + "@" + (100 + i * 37));
        }
        Collections.sort(members);
        return members;
    }

    public static void main(String[] args) throws Exception {
        AllocateMessageQueueByMachineRoom rooms = new AllocateMessageQueueByMachineRoom();
        rooms.setConsumeridcs(new HashSet<>(Arrays.asList("room1", "room3")));
        AllocateMachineRoomNearby.MachineRoomResolver resolver = new AllocateMachineRoomNearby.MachineRoomResolver() {
            public String brokerDeployIn(MessageQueue queue) {
                return queue.getBrokerName().split("@")[0];
            }

            public String consumerDeployIn(String clientId) {
                return "room" + clientId.split("\\.")[2];
            }
        };
        Map<String, AllocateMessageQueueStrategy> strategies = new LinkedHashMap<>();
        for (AllocateMessageQueueStrategy strategy : Arrays.asList(
                new AllocateMessageQueueAveragely(),
                new AllocateMessageQueueAveragelyByCircle(),
                new AllocateMessageQueueConsistentHash(),
                rooms,
                new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(), resolver),
                new AllocateMachineRoomNearby(new AllocateMessageQueueAveragelyByCircle(), resolver),
                new AllocateMachineRoomNearby(new AllocateMessageQueueConsistentHash(), resolver))) {
            strategies.put(strategy.getName(), strategy);
        }
        try (PrintWriter out = new PrintWriter(args[0], "UTF-8")) {
            for (Map.Entry<String, AllocateMessageQueueStrategy> strategy : strategies.entrySet()) {
                for (int[] size : FULL) {
                    out.println("full " + strategy.getKey() + " " + size[0] + " " + size[1] + " "
                        + shares(strategy.getValue(), size[0], size[1]));
                }
                for (int c = 1; c <= MEMBERS; c++) {
                    MessageDigest md5 = MessageDigest.getInstance("MD5");
                    for (int n = 1; n <= QUEUES; n++) {
                        md5.update((shares(strategy.getValue(), c, n) + "\n").getBytes("UTF-8"));
                    }
                    StringBuilder hex = new StringBuilder();
                    for (byte b : md5.digest()) {
                        hex.append(String.format("%02x", b));
                    }
                    out.println("digest " + strategy.getKey() + " " + c + " " + hex);
                }
            }
        }
    }

    /** Places in the sorted list of queues, comma-joined for each member, members joined by semicolons. */
    static String shares(AllocateMessageQueueStrategy strategy, int c, int n) {
        List<MessageQueue> queues = queues(n);
        List<String> members = members(c);
        List<String> shares = new ArrayList<>();
        for (String me : members) {
            List<String> share = new ArrayList<>();
            for (MessageQueue queue : strategy.allocate("G", me, queues, members)) {
                share.add(String.valueOf(queues.indexOf(queue)));
            }
            shares.add(String.join(",", share));
        }
        return String.join(";", shares);
    }
}
