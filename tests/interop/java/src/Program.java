import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Testable;
import org.apache.zookeeper.Transaction;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;

/**
 * Calls every public method of the Java client against one server and writes a transcript.
 *
 * <p>{@code java Program TRANSCRIPT whole|secured PORT [PORT-OF-ANOTHER-MEMBER]}; ends with 1 when a public method was
 * never called. {@code secured} is the shorter form for TLS and SASL: without the ways in which sessions begin and end.
 */
final class Program {
    private Program() {
    }

    public static void main(String[] args) throws Exception {
        Calls calls = new Calls(ZooKeeper.class, ZooKeeperAdmin.class, Transaction.class, Op.class, Testable.class);
        boolean whole = args[1].equals("whole");
        try (PrintStream out = new PrintStream(new FileOutputStream(args[0]), true, StandardCharsets.UTF_8)) {
            Script script = new Script(calls, out);
            int port = Integer.parseInt(args[2]);
            int other = Integer.parseInt(args[args.length - 1]);
            Script.Witness main = script.witness("main");
            ZooKeeper zk = (ZooKeeper) script.step("connect", ZooKeeper.class, "new(String,int,Watcher)", "127.0.0.1:" + port,
                10000, main);
            script.mask.session(zk.getSessionId(), "main");
            new Nodes(script, zk).run();
            new Access(script, zk, port).run();
            new Multi(script, zk).run();
            new Watches(script, zk, port).run();
            if (whole) {
                new Sessions(script, zk, port, other).run();
            }
            new Special(script, zk, port).run();
            script.section("end", zk);
            script.forget(zk);
            script.step("close", zk, "close()");
        } catch (Throwable e) {
            e.printStackTrace();
            System.exit(2);
        }
        List<String> rest = calls.neverCalled();
        System.out.println(calls.count() - rest.size() + " of " + calls.count() + " public methods called");
        if (whole) {
            rest.forEach(name -> System.out.println("never called: " + name));
        }
        System.exit(whole && !rest.isEmpty() ? 1 : 0);
    }
}
