import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Testable;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.client.HostProvider;
import org.apache.zookeeper.client.StaticHostProvider;
import org.apache.zookeeper.client.ZKClientConfig;

/** Sessions: every constructor, what a client says of itself, renewal, moves, expiry, ends. */
final class Sessions {
    private static final String HOST = "127.0.0.1:";
    private final Script script;
    private final ZooKeeper zk;
    private final int port;
    private final int other;

    Sessions(Script script, ZooKeeper zk, int port, int other) {
        this.script = script;
        this.zk = zk;
        this.port = port;
        this.other = other;
    }

    void run() throws Exception {
        script.section("session", zk);
        themselves();
        constructors();
        renewed();
        moved();
        expired();
    }

    private HostProvider provider(int... ports) throws Exception {
        List<InetSocketAddress> addresses = new ArrayList<>();
        for (int p : ports) {
            addresses.add(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), p));
        }
        return new StaticHostProvider(addresses);
    }

    private void themselves() throws Exception {
        script.step("id", zk, "getSessionId()");
        script.step("password", zk, "getSessionPasswd()");
        script.step("timeout", zk, "getSessionTimeout()");
        script.step("state", zk, "getState()");
        script.step("config", zk, "getClientConfig()");
        script.step("no sasl", zk, "getSaslClient()");
        script.note("text", text(zk));
        int server = (int) (zk.getSessionId() >>> 56);
        script.note("server of the id", server >= 1 && server <= 3 ? "a member" : "none: " + server);
    }

    /** What a client says of itself, without its counters. */
    private String text(ZooKeeper client) throws Exception {
        return script.calls.use(client, "toString()").toString().replaceAll("0x[0-9a-f]+", "#").replaceAll(":[0-9]+", ":#");
    }

    private void constructors() throws Exception {
        ZKClientConfig config = new ZKClientConfig();
        String host = HOST + port;
        Object[][] news = {
            {ZooKeeper.class, "new(String,int,Watcher)", host, 100},
            {ZooKeeper.class, "new(String,int,Watcher)", host + "/session", 60_000},
            {ZooKeeper.class, "new(String,int,Watcher,ZKClientConfig)", host, 6000, config},
            {ZooKeeper.class, "new(String,int,Watcher,boolean)", host, 6000, true},
            {ZooKeeper.class, "new(String,int,Watcher,boolean,ZKClientConfig)", host, 6000, false, config},
            {ZooKeeper.class, "new(String,int,Watcher,boolean,HostProvider)", host, 6000, true, provider(port)},
            {ZooKeeper.class, "new(String,int,Watcher,boolean,HostProvider,ZKClientConfig)", host, 6000, false, provider(port), config},
            {ZooKeeperAdmin.class, "new(String,int,Watcher)", host, 6000},
            {ZooKeeperAdmin.class, "new(String,int,Watcher,ZKClientConfig)", host, 6000, config},
            {ZooKeeperAdmin.class, "new(String,int,Watcher,boolean)", host, 6000, true},
            {ZooKeeperAdmin.class, "new(String,int,Watcher,boolean,ZKClientConfig)", host, 6000, false, config},
        };
        for (int i = 0; i < news.length; i++) {
            Object[] given = news[i];
            List<Object> args = new ArrayList<>(Arrays.asList(given).subList(2, given.length));
            args.add(2, script.witness("made"));
            ZooKeeper made = (ZooKeeper) script.step("constructor " + i, given[0], (String) given[1], args.toArray());
            script.mask.session(made.getSessionId(), "made " + i);
            script.step("ephemeral " + i, made, "create(String,byte[],List,CreateMode)", i == 1 ? "/e1" : "/session/e" + i, null,
                Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            script.step("seen " + i, zk, "exists(String,boolean)", "/session/e" + i, false);
            script.forget(made);
            if (made instanceof ZooKeeperAdmin) {
                script.note("text " + i, text(made));
            }
            if (i % 2 == 0) {
                script.step("close " + i, made, "close()");
            } else {
                script.step("close " + i, made, "close(int)", 10_000);
            }
            script.step("gone " + i, zk, "exists(String,boolean)", "/session/e" + i, false);
        }
        ZooKeeper root = new ZooKeeper(host + "/session/none", 6000, script.witness("chroot"));
        script.step("below a root that is not", root, "create(String,byte[],List,CreateMode)", "/x", null, Ids.OPEN_ACL_UNSAFE,
            CreateMode.PERSISTENT);
        script.step("close it", root, "close(int)", 10_000);
        script.step("closed client", root, "exists(String,boolean)", "/", false);
    }

    private void renewed() throws Exception {
        ZKClientConfig config = new ZKClientConfig();
        Script.Witness first = script.witness("first");
        List<Gate> gates = new ArrayList<>();
        List<ZooKeeper> old = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            gates.add(new Gate(port));
        }
        ZooKeeper now = (ZooKeeper) script.step("to be renewed", ZooKeeper.class, "new(String,int,Watcher)", gates.get(0).host(), 10000, first);
        long id = now.getSessionId();
        byte[] password = now.getSessionPasswd();
        script.mask.session(id, "renewed");
        script.step("its ephemeral", now, "create(String,byte[],List,CreateMode)", "/session/kept", null, Ids.OPEN_ACL_UNSAFE,
            CreateMode.EPHEMERAL);
        Object[][] news = {
            {"new(String,int,Watcher,long,byte[])", 10000, id, password},
            {"new(String,int,Watcher,long,byte[],boolean)", 9000, id, password, false},
            {"new(String,int,Watcher,long,byte[],boolean,HostProvider)", 8000, id, password, true, null},
            {"new(String,int,Watcher,long,byte[],boolean,HostProvider,ZKClientConfig)", 7000, id, password, false, null, config},
        };
        for (int i = 0; i < news.length; i++) {
            old.add(now);
            script.forget(now);
            Script.Witness before = script.witness(i == 0 ? "first" : "renewal " + (i - 1)).hold(true);
            gates.get(i).shut();
            script.until("cut before renewal " + i, "disconnected", () -> before.saw(Event.KeeperState.Disconnected));
            Gate gate = gates.get(i + 1);
            List<Object> args = new ArrayList<>(Arrays.asList(news[i]).subList(1, news[i].length));
            args.add(0, gate.host());
            args.add(2, script.witness("renewal " + i));
            if (args.size() > 6) {
                args.set(6, provider(Integer.parseInt(gate.host().substring(HOST.length()))));
            }
            now = (ZooKeeper) script.step("renewal " + i, ZooKeeper.class, (String) news[i][0], args.toArray());
            script.step("same session " + i, now, "getSessionId()");
            script.step("owner " + i, now, "exists(String,boolean)", "/session/kept", false);
            script.step("ephemerals " + i, now, "getEphemerals()");
        }
        script.witness("renewal 3").hold(true);
        Script.Witness thief = script.witness("thief");
        ZooKeeper wrong = new ZooKeeper(HOST + port, 10000, thief, id, new byte[16]);
        // On the same server even a wrong password cuts the true client's connection off; it comes back.
        ZooKeeper last = now;
        script.until("wrong password", "expired, and the true one is back", () -> thief.saw(Event.KeeperState.Expired) && exists(last));
        script.step("state of the wrong one", wrong, "getState()");
        script.forget(now);
        script.step("the last one closes", now, "close()");
        script.step("its ephemeral is gone", zk, "exists(String,boolean)", "/session/kept", false);
        gates.get(0).open();
        script.until("the first one learns it", "expired", () -> first.saw(Event.KeeperState.Expired));
        script.step("an expired client", old.get(0), "exists(String,boolean)", "/", false);
        for (int i = 0; i < gates.size() - 1; i++) {
            gates.get(i).open();
            Script.Witness told = script.witness("renewal " + (i - 1));
            if (i > 0) {
                script.until("so does the one before renewal " + i, "expired", () -> told.saw(Event.KeeperState.Expired));
            }
            script.step("close the one before renewal " + i, old.get(i), "close(int)", 10_000);
        }
        wrong.close(10_000);
        for (Gate gate : gates) {
            gate.close();
        }
    }

    private static boolean exists(ZooKeeper zk) {
        try {
            return zk.exists("/session/kept", false) != null;
        } catch (Exception e) {
            return false;
        }
    }

    private void moved() throws Exception {
        Script.Witness mover = script.witness("mover");
        Script.Witness watch = script.witness("watch");
        ZooKeeper moves = (ZooKeeper) script.step("will move", ZooKeeper.class, "new(String,int,Watcher)", HOST + port, 10000, mover);
        script.mask.session(moves.getSessionId(), "mover");
        script.step("before: ephemeral", moves, "create(String,byte[],List,CreateMode)", "/session/moves", null, Ids.OPEN_ACL_UNSAFE,
            CreateMode.EPHEMERAL);
        script.step("before: watch", moves, "exists(String,Watcher)", "/session/moves", watch);
        mover.hold(true);
        watch.hold(true);
        script.step("the same list", moves, "updateServerList(String)", HOST + port);
        Gate gate = new Gate(other);
        script.step("another server", moves, "updateServerList(String)", gate.host());
        script.until("arrived", "connected", () -> mover.saw(Event.KeeperState.SyncConnected) && moves.getState().isConnected());
        script.step("after: id", moves, "getSessionId()");
        script.step("after: owner", moves, "exists(String,boolean)", "/session/moves", false);
        script.step("after: watch", zk, "setData(String,byte[],int)", "/session/moves", null, -1);
        script.step("after: writes", moves, "setData(String,byte[],int)", "/session/moves", null, -1);
        script.forget(moves);
        script.step("after: close", moves, "close()");
        script.step("after: gone", zk, "exists(String,boolean)", "/session/moves", false);
        gate.close();
    }

    private void expired() throws Exception {
        Script.Witness silent = script.witness("silent");
        Gate gate = new Gate(port);
        ZooKeeper cut = (ZooKeeper) script.step("will expire", ZooKeeper.class, "new(String,int,Watcher)", gate.host(), 2000, silent);
        script.mask.session(cut.getSessionId(), "silent");
        script.step("ephemeral to expire", cut, "create(String,byte[],List,CreateMode)", "/session/expires", null, Ids.OPEN_ACL_UNSAFE,
            CreateMode.EPHEMERAL);
        script.step("watched by another", zk, "exists(String,Watcher)", "/session/expires", script.witness("end"));
        script.forget(cut);
        gate.shut();
        script.until("the server's clock ends it", "deleted", () -> script.witness("end").count() > 0);
        gate.open();
        script.until("and it is told", "expired", () -> silent.saw(Event.KeeperState.Expired));
        script.step("state when expired", cut, "getState()");
        script.step("close when expired", cut, "close()");
        gate.close();

        Script.Witness injected = script.witness("injected");
        ZooKeeper test = (ZooKeeper) script.step("for its own tests", ZooKeeper.class, "new(String,int,Watcher)", HOST + port, 10000, injected);
        script.mask.session(test.getSessionId(), "injected");
        Testable testable = (Testable) script.calls.use(test, "getTestable()");
        script.step("queue an event", testable, "queueEvent(WatchedEvent)",
            new WatchedEvent(Event.EventType.None, Event.KeeperState.Disconnected, null));
        script.forget(test);
        injected.hold(true);
        script.step("inject an expiry", testable, "injectSessionExpiration()");
        script.until("injected", "expired", () -> injected.saw(Event.KeeperState.Expired));
        script.endSession(test, HOST + port);
        script.step("close when injected", test, "close()");
    }
}
