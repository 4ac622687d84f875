import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/** Watches of every kind: what fires them, how they are removed, and what is told after a lost connection. */
final class Watches {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private static final String CREATE = "create(String,byte[],List,CreateMode)";
    private static final String SET = "setData(String,byte[],int)";
    private static final String DELETE = "delete(String,int)";
    private final Script script;
    private final ZooKeeper zk;
    private final int port;

    Watches(Script script, ZooKeeper zk, int port) {
        this.script = script;
        this.zk = zk;
        this.port = port;
    }

    void run() throws Exception {
        oneShot();
        persistent();
        removed();
        reconnected();
    }

    private void oneShot() throws Exception {
        script.section("watch", zk);
        Script.Witness a = script.witness("A");
        Script.Witness b = script.witness("B");
        script.step("register the default", zk, "register(Watcher)", script.witness("default"));
        script.step("exists, missing", zk, "exists(String,Watcher)", "/watch/n", a);
        script.step("data, missing", zk, "getData(String,Watcher,Stat)", "/watch/n", b, new Stat());
        script.step("children, missing", zk, "getChildren(String,Watcher)", "/watch/n", b);
        script.step("created", zk, CREATE, "/watch/n", null, OPEN, CreateMode.PERSISTENT);
        script.step("set when nobody watches", zk, SET, "/watch/n", null, -1);

        script.step("exists", zk, "exists(String,Watcher)", "/watch/n", a);
        script.step("data", zk, "getData(String,Watcher,Stat)", "/watch/n", b, new Stat());
        script.step("data, default", zk, "getData(String,boolean,Stat)", "/watch/n", true, new Stat());
        script.step("children", zk, "getChildren(String,Watcher)", "/watch/n", a);
        script.step("children and stat", zk, "getChildren(String,Watcher,Stat)", "/watch/n", b, new Stat());
        script.step("children, default", zk, "getChildren(String,boolean)", "/watch/n", true);
        script.step("children of the parent", zk, "getChildren(String,Watcher)", "/watch", a);
        script.step("set", zk, SET, "/watch/n", Nodes.bytes("1"), -1);
        script.step("set again", zk, SET, "/watch/n", Nodes.bytes("2"), -1);
        script.step("child created", zk, CREATE, "/watch/n/c", null, OPEN, CreateMode.PERSISTENT);
        script.step("another child", zk, CREATE, "/watch/n/d", null, OPEN, CreateMode.EPHEMERAL);
        script.step("exists, default", zk, "exists(String,boolean)", "/watch/n/c", true);
        script.step("children again", zk, "getChildren(String,boolean,Stat)", "/watch/n/c", true, new Stat());
        script.step("child watched twice is deleted", zk, DELETE, "/watch/n/c", -1);
        script.step("acl says nothing", zk, "setACL(String,List,int)", "/watch/n", OPEN, -1);
        script.step("last child deleted", zk, DELETE, "/watch/n/d", -1);
        script.step("parent's child deleted", zk, DELETE, "/watch/n", -1);

        script.step("async exists", zk, "exists(String,Watcher,StatCallback,Object)", "/watch/m", a, Script.CALLBACK, "ctx");
        script.step("async exists, default", zk, "exists(String,boolean,StatCallback,Object)", "/watch/m", true, Script.CALLBACK, "ctx");
        script.step("async fires", zk, CREATE, "/watch/m", null, OPEN, CreateMode.PERSISTENT);
        script.step("async data", zk, "getData(String,Watcher,DataCallback,Object)", "/watch/m", a, Script.CALLBACK, "ctx");
        script.step("async data, default", zk, "getData(String,boolean,DataCallback,Object)", "/watch/m", true, Script.CALLBACK, "ctx");
        script.step("async children", zk, "getChildren(String,Watcher,ChildrenCallback,Object)", "/watch/m", a, Script.CALLBACK, "ctx");
        script.step("async children2, default", zk, "getChildren(String,boolean,Children2Callback,Object)", "/watch/m", true,
            Script.CALLBACK, "ctx");
        script.step("multi fires each once", zk, "multi(Iterable)", List.of(Op.setData("/watch/m", Nodes.bytes("1"), -1),
            Op.setData("/watch/m", Nodes.bytes("2"), -1), Op.create("/watch/m/c", null, OPEN, CreateMode.PERSISTENT),
            Op.create("/watch/m/d", null, OPEN, CreateMode.PERSISTENT)));
        script.step("watched for a failing multi", zk, "getData(String,Watcher,Stat)", "/watch/m", a, new Stat());
        script.step("failing multi", zk, "multi(Iterable)",
            List.of(Op.setData("/watch/m", null, -1), Op.check("/watch/none", 0)));
        script.step("config watch", zk, "getConfig(Watcher,Stat)", a, new Stat());
        script.step("config watch, default", zk, "getConfig(boolean,Stat)", true, new Stat());
        script.step("refused: no watch", zk, "getData(String,Watcher,Stat)", "/noauth/elsewhere", b, new Stat());
        script.step("still the first", zk, "register(Watcher)", script.witness("main"));
        script.step("fires what failed to", zk, SET, "/watch/m", Nodes.bytes("3"), -1);
    }

    private void persistent() throws Exception {
        script.section("persist", zk);
        Script.Witness p = script.witness("P");
        Script.Witness r = script.witness("R");
        zk.create("/persist/n", null, OPEN, CreateMode.PERSISTENT);
        script.step("add", zk, "addWatch(String,Watcher,AddWatchMode)", "/persist/n", p, AddWatchMode.PERSISTENT);
        script.step("add recursive", zk, "addWatch(String,Watcher,AddWatchMode)", "/persist", r, AddWatchMode.PERSISTENT_RECURSIVE);
        for (int round = 1; round <= 2; round++) {
            script.step("set " + round, zk, SET, "/persist/n", null, -1);
            script.step("child " + round, zk, CREATE, "/persist/n/c", null, OPEN, CreateMode.PERSISTENT);
            script.step("child's data " + round, zk, SET, "/persist/n/c", null, -1);
            script.step("grandchild " + round, zk, CREATE, "/persist/n/c/g", null, OPEN, CreateMode.PERSISTENT);
            script.step("delete grandchild " + round, zk, DELETE, "/persist/n/c/g", -1);
            script.step("delete child " + round, zk, DELETE, "/persist/n/c", -1);
            script.step("delete " + round, zk, DELETE, "/persist/n", -1);
            script.step("create " + round, zk, CREATE, "/persist/n", null, OPEN, CreateMode.PERSISTENT);
        }
        script.step("add default", zk, "addWatch(String,AddWatchMode)", "/persist/d", AddWatchMode.PERSISTENT);
        script.step("default fires", zk, CREATE, "/persist/d", null, OPEN, CreateMode.PERSISTENT);
        script.step("add async", zk, "addWatch(String,Watcher,AddWatchMode,VoidCallback,Object)", "/persist/e", p, AddWatchMode.PERSISTENT,
            Script.CALLBACK, "ctx");
        script.step("async fires", zk, CREATE, "/persist/e", null, OPEN, CreateMode.PERSISTENT);
        script.step("add default async", zk, "addWatch(String,AddWatchMode,VoidCallback,Object)", "/persist/f",
            AddWatchMode.PERSISTENT_RECURSIVE, Script.CALLBACK, "ctx");
        script.step("async default fires", zk, CREATE, "/persist/f", null, OPEN, CreateMode.PERSISTENT);
        script.step("in a multi", zk, "multi(Iterable)", List.of(Op.create("/persist/f/1", null, OPEN, CreateMode.PERSISTENT),
            Op.setData("/persist/f/1", null, -1), Op.delete("/persist/f/1", -1)));
        script.step("one-shot beside a persistent one", zk, "getData(String,Watcher,Stat)", "/persist/n", script.witness("A"), new Stat());
        script.step("both fire", zk, SET, "/persist/n", null, -1);
        script.step("the persistent one fires on", zk, SET, "/persist/n", null, -1);
        script.step("one-shot children beside it", zk, "getChildren(String,Watcher)", "/persist/n", script.witness("A"));
        script.step("both see a child", zk, CREATE, "/persist/n/c", null, OPEN, CreateMode.PERSISTENT);
        script.step("the persistent one sees another", zk, CREATE, "/persist/n/d", null, OPEN, CreateMode.PERSISTENT);
    }

    private void removed() throws Exception {
        script.section("remove", zk);
        Script.Witness a = script.witness("A");
        Script.Witness b = script.witness("B");
        Script.Witness p = script.witness("P");
        zk.create("/remove/n", null, OPEN, CreateMode.PERSISTENT);
        String remove = "removeWatches(String,Watcher,WatcherType,boolean)";
        String all = "removeAllWatches(String,WatcherType,boolean)";
        for (WatcherType type : WatcherType.values()) {
            script.step("none of " + type, zk, remove, "/remove/n", a, type, false);
            script.step("none of all " + type, zk, all, "/remove/n", type, false);
            script.step("data for " + type, zk, "getData(String,Watcher,Stat)", "/remove/n", a, new Stat());
            script.step("children for " + type, zk, "getChildren(String,Watcher)", "/remove/n", a);
            script.step("not another's " + type, zk, remove, "/remove/n", b, type, false);
            script.step("remove " + type, zk, remove, "/remove/n", a, type, false);
            script.step("remove twice " + type, zk, remove, "/remove/n", a, type, false);
            script.step("set after " + type, zk, SET, "/remove/n", null, -1);
            script.step("child after " + type, zk, CREATE, "/remove/n/" + type, null, OPEN, CreateMode.PERSISTENT);
        }
        script.step("one of two: A", zk, "getData(String,Watcher,Stat)", "/remove/n", a, new Stat());
        script.step("one of two: B", zk, "getData(String,Watcher,Stat)", "/remove/n", b, new Stat());
        script.step("one of two: remove A", zk, remove, "/remove/n", a, WatcherType.Data, false);
        script.step("one of two: B fires", zk, SET, "/remove/n", null, -1);
        script.step("all of two: A", zk, "exists(String,Watcher)", "/remove/none", a);
        script.step("all of two: B", zk, "exists(String,Watcher)", "/remove/none", b);
        script.step("all of two: remove", zk, all, "/remove/none", WatcherType.Data, false);
        script.step("all of two: none fires", zk, CREATE, "/remove/none", null, OPEN, CreateMode.PERSISTENT);
        script.step("local: A", zk, "getChildren(String,Watcher)", "/remove", a);
        script.step("local: remove", zk, remove, "/remove", a, WatcherType.Children, true);
        script.step("async: A", zk, "getChildren(String,Watcher)", "/remove", a);
        script.step("async: remove", zk, "removeWatches(String,Watcher,WatcherType,boolean,VoidCallback,Object)", "/remove", a,
            WatcherType.Children, false, Script.CALLBACK, "ctx");
        script.step("async: remove again", zk, "removeWatches(String,Watcher,WatcherType,boolean,VoidCallback,Object)", "/remove", a,
            WatcherType.Children, false, Script.CALLBACK, "ctx");
        script.step("async: all, A", zk, "getChildren(String,Watcher)", "/remove", a);
        script.step("async: all", zk, "removeAllWatches(String,WatcherType,boolean,VoidCallback,Object)", "/remove", WatcherType.Any,
            false, Script.CALLBACK, "ctx");
        script.step("async: all again", zk, "removeAllWatches(String,WatcherType,boolean,VoidCallback,Object)", "/remove",
            WatcherType.Any, false, Script.CALLBACK, "ctx");
        for (AddWatchMode mode : AddWatchMode.values()) {
            script.step("add " + mode, zk, "addWatch(String,Watcher,AddWatchMode)", "/remove/p", p, mode);
            script.step("fires " + mode, zk, CREATE, "/remove/p", null, OPEN, CreateMode.PERSISTENT);
            script.step("remove " + mode, zk, remove, "/remove/p", p, WatcherType.Any, false);
            script.step("fires no more " + mode, zk, DELETE, "/remove/p", -1);
        }
        script.step("persistent, removed as data", zk, "addWatch(String,Watcher,AddWatchMode)", "/remove/q", p, AddWatchMode.PERSISTENT);
        script.step("remove as data", zk, all, "/remove/q", WatcherType.Data, false);
        script.step("fires after removal as data", zk, CREATE, "/remove/q", null, OPEN, CreateMode.PERSISTENT);
        script.step("remove all", zk, all, "/remove/q", WatcherType.Any, false);
        script.step("fires after removal of all", zk, SET, "/remove/q", null, -1);
    }

    private void reconnected() throws Exception {
        script.section("again", zk);
        Script.Witness session = script.witness("cut");
        for (String name : List.of("set", "deleted", "parent", "same", "recreated", "gone", "below", "early")) {
            zk.create("/again/" + name, null, OPEN, CreateMode.PERSISTENT);
        }
        try (Gate gate = new Gate(port)) {
            ZooKeeper cut = (ZooKeeper) script.step("through a gate", ZooKeeper.class, "new(String,int,Watcher)", gate.host(), 10000, session);
            script.mask.session(cut.getSessionId(), "cut");
            cut.create("/again/mine", null, OPEN, CreateMode.EPHEMERAL);
            for (String name : List.of("set", "deleted", "same", "recreated")) {
                script.step("data " + name, cut, "getData(String,Watcher,Stat)", "/again/" + name, script.witness("data " + name), new Stat());
            }
            for (String name : List.of("new", "never", "set")) {
                script.step("exists " + name, cut, "exists(String,Watcher)", "/again/" + name, script.witness("exists " + name));
            }
            for (String name : List.of("parent", "gone", "same")) {
                script.step("children " + name, cut, "getChildren(String,Watcher)", "/again/" + name, script.witness("children " + name));
            }
            script.step("persistent", cut, "addWatch(String,Watcher,AddWatchMode)", "/again/set", script.witness("persistent"),
                AddWatchMode.PERSISTENT);
            script.step("recursive", cut, "addWatch(String,Watcher,AddWatchMode)", "/again/below", script.witness("recursive"),
                AddWatchMode.PERSISTENT_RECURSIVE);
            // Paths of 200 KiB in all do not fit into one setWatches.
            for (int i = 0; i < 800; i++) {
                cut.exists("/again/" + "long".repeat(60) + i, script.witness("many"));
            }
            gate.shut();
            script.until("cut", "disconnected", () -> session.saw(KeeperState.Disconnected));
            zk.setData("/again/set", Nodes.bytes("1"), -1);
            zk.delete("/again/deleted", -1);
            zk.create("/again/parent/c", null, OPEN, CreateMode.PERSISTENT);
            zk.delete("/again/recreated", -1);
            zk.create("/again/recreated", null, OPEN, CreateMode.PERSISTENT);
            zk.delete("/again/gone", -1);
            zk.create("/again/new", null, OPEN, CreateMode.PERSISTENT);
            zk.create("/again/below/c", null, OPEN, CreateMode.PERSISTENT);
            zk.create("/again/" + "long".repeat(60) + "799", null, OPEN, CreateMode.PERSISTENT);
            script.step("the ephemeral lives on", zk, "exists(String,boolean)", "/again/mine", false);
            gate.open();
            script.until("open again", "connected", () -> session.saw(KeeperState.SyncConnected));
            script.step("the same session", cut, "getSessionId()");
            script.step("what was not told is watched: data", zk, SET, "/again/same", null, -1);
            script.step("what was not told is watched: children", zk, CREATE, "/again/same/c", null, OPEN, CreateMode.PERSISTENT);
            script.step("what was not told is watched: exists", zk, CREATE, "/again/never", null, OPEN, CreateMode.PERSISTENT);
            script.step("what was told is not", zk, SET, "/again/new", null, -1);
            script.step("persistent ones go on", zk, SET, "/again/set", null, -1);
            script.step("recursive ones go on", zk, SET, "/again/below/c", null, -1);
            script.step("one of the many", zk, CREATE, "/again/" + "long".repeat(60) + "3", null, OPEN, CreateMode.PERSISTENT);
            script.forget(cut);
            script.step("close", cut, "close()");
            script.step("the ephemeral went with it", zk, "exists(String,boolean)", "/again/mine", false);
        }
    }
}
