import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/** Nodes: made in every mode, read, changed, listed, deleted, and every refusal on the way. */
final class Nodes {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private final Script script;
    private final ZooKeeper zk;

    Nodes(Script script, ZooKeeper zk) {
        this.script = script;
        this.zk = zk;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    void run() throws Exception {
        create();
        createAsync();
        read();
        write();
        children();
        delete();
    }

    private void create() throws Exception {
        script.section("create", zk);
        String plain = "create(String,byte[],List,CreateMode)";
        script.step("persistent", zk, plain, "/create/p", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("persistent sequential", zk, plain, "/create/s-", bytes(""), OPEN, CreateMode.PERSISTENT_SEQUENTIAL);
        script.step("ephemeral", zk, plain, "/create/e", null, OPEN, CreateMode.EPHEMERAL);
        script.step("ephemeral sequential", zk, plain, "/create/es-", bytes("x"), OPEN, CreateMode.EPHEMERAL_SEQUENTIAL);
        script.step("container", zk, plain, "/create/c", bytes("x"), OPEN, CreateMode.CONTAINER);
        script.step("only a suffix", zk, plain, "/create/", bytes("x"), OPEN, CreateMode.PERSISTENT_SEQUENTIAL);
        script.step("unicode", zk, plain, "/create/\u00e4\u00f6\u4e2d", bytes("\u00fc"), OPEN, CreateMode.PERSISTENT);
        script.step("exists already", zk, plain, "/create/p", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("no parent", zk, plain, "/create/none/x", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("below an ephemeral", zk, plain, "/create/e/x", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("below a container", zk, plain, "/create/c/x", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("root", zk, plain, "/", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("bad path", zk, plain, "/create/../x", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("no ACL", zk, plain, "/create/acl", bytes("x"), List.of(), CreateMode.PERSISTENT);
        script.step("null ACL", zk, plain, "/create/acl", bytes("x"), null, CreateMode.PERSISTENT);
        script.step("below zookeeper", zk, plain, "/zookeeper/mine", bytes("x"), OPEN, CreateMode.PERSISTENT);
        script.step("a megabyte", zk, plain, "/create/big", new byte[1_048_000], OPEN, CreateMode.PERSISTENT);

        String stat = "create(String,byte[],List,CreateMode,Stat)";
        script.step("stat persistent", zk, stat, "/create/p2", bytes("xy"), OPEN, CreateMode.PERSISTENT, new Stat());
        script.step("stat ephemeral", zk, stat, "/create/e2", bytes("xy"), OPEN, CreateMode.EPHEMERAL, new Stat());
        script.step("stat sequential", zk, stat, "/create/s-", bytes("xy"), OPEN, CreateMode.EPHEMERAL_SEQUENTIAL, new Stat());
        script.step("stat container", zk, stat, "/create/c2", null, OPEN, CreateMode.CONTAINER, new Stat());
        script.step("stat exists already", zk, stat, "/create/p2", bytes("xy"), OPEN, CreateMode.PERSISTENT, new Stat());

        String ttl = "create(String,byte[],List,CreateMode,Stat,long)";
        script.step("ttl", zk, ttl, "/create/t", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 3_600_000L);
        script.step("ttl sequential", zk, ttl, "/create/t-", bytes("x"), OPEN, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL,
            new Stat(), 3_600_000L);
        script.step("ttl of a plain node", zk, ttl, "/create/t2", bytes("x"), OPEN, CreateMode.PERSISTENT, new Stat(), -1L);
        script.step("ttl where none belongs", zk, ttl, "/create/t3", bytes("x"), OPEN, CreateMode.PERSISTENT, new Stat(), 5L);
        script.step("ttl of 0", zk, ttl, "/create/t3", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 0L);
        script.step("ttl at its largest", zk, ttl, "/create/t4", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, new Stat(),
            (1L << 40) - 1);
        script.step("ttl above its largest", zk, ttl, "/create/t5", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, new Stat(),
            1L << 40);
        script.step("ttl exists already", zk, ttl, "/create/t", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, new Stat(), 5L);
    }

    private void createAsync() throws Exception {
        script.section("acreate", zk);
        String plain = "create(String,byte[],List,CreateMode,StringCallback,Object)";
        for (CreateMode mode : CreateMode.values()) {
            if (!mode.isTTL()) {
                script.step(mode.name(), zk, plain, "/acreate/1-" + mode, bytes("x"), OPEN, mode, Script.CALLBACK, "ctx");
            }
        }
        script.step("exists already", zk, plain, "/acreate", null, OPEN, CreateMode.PERSISTENT, Script.CALLBACK, null);
        script.step("no parent", zk, plain, "/acreate/none/x", null, OPEN, CreateMode.PERSISTENT, Script.CALLBACK, 7);
        String stat = "create(String,byte[],List,CreateMode,Create2Callback,Object)";
        for (CreateMode mode : CreateMode.values()) {
            if (!mode.isTTL()) {
                script.step("stat " + mode, zk, stat, "/acreate/2-" + mode, bytes("x"), OPEN, mode, Script.CALLBACK, "ctx");
            }
        }
        script.step("stat no parent", zk, stat, "/acreate/none/x", null, OPEN, CreateMode.PERSISTENT, Script.CALLBACK, 7);
        String ttl = "create(String,byte[],List,CreateMode,Create2Callback,Object,long)";
        script.step("ttl", zk, ttl, "/acreate/t", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, Script.CALLBACK, "ctx", 9_999_999L);
        script.step("ttl sequential", zk, ttl, "/acreate/t-", bytes("x"), OPEN, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL,
            Script.CALLBACK, "ctx", 9_999_999L);
        script.step("ttl no parent", zk, ttl, "/acreate/none/t", bytes("x"), OPEN, CreateMode.PERSISTENT_WITH_TTL, Script.CALLBACK,
            "ctx", 9_999_999L);
    }

    private void read() throws Exception {
        script.section("read", zk);
        zk.create("/read/p", bytes("value"), OPEN, CreateMode.PERSISTENT);
        zk.create("/read/null", null, OPEN, CreateMode.PERSISTENT);
        zk.create("/read/empty", new byte[0], OPEN, CreateMode.PERSISTENT);
        for (String path : List.of("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota", "/read", "/read/p", "/read/none",
            "/create/e", "/create/c", "/create/t", "/create/big", "/read/null", "/read/empty")) {
            script.step("exists " + path, zk, "exists(String,boolean)", path, false);
            // The configuration has a step of its own, since its text names servers.
            if (!path.endsWith("config")) {
                script.step("get " + path, zk, "getData(String,boolean,Stat)", path, false, new Stat());
            }
        }
        script.step("exists of a bad path", zk, "exists(String,boolean)", "read", false);
        script.step("exists with no watcher", zk, "exists(String,Watcher)", "/read/p", null);
        script.step("get with no watcher", zk, "getData(String,Watcher,Stat)", "/read/p", null, new Stat());
        script.step("get with no stat", zk, "getData(String,boolean,Stat)", "/read/p", false, null);
        String exists = "exists(String,boolean,StatCallback,Object)";
        script.step("async exists", zk, exists, "/read/p", false, Script.CALLBACK, "ctx");
        script.step("async exists none", zk, exists, "/read/none", false, Script.CALLBACK, "ctx");
        script.step("async exists, watcher", zk, "exists(String,Watcher,StatCallback,Object)", "/read/p", null, Script.CALLBACK, null);
        String get = "getData(String,boolean,DataCallback,Object)";
        script.step("async get", zk, get, "/read/p", false, Script.CALLBACK, "ctx");
        script.step("async get null", zk, get, "/read/null", false, Script.CALLBACK, "ctx");
        script.step("async get none", zk, get, "/read/none", false, Script.CALLBACK, "ctx");
        script.step("async get, watcher", zk, "getData(String,Watcher,DataCallback,Object)", "/read/p", null, Script.CALLBACK, null);
        script.step("sync", zk, "sync(String,VoidCallback,Object)", "/read/p", Script.CALLBACK, "ctx");
        script.step("sync of nothing", zk, "sync(String,VoidCallback,Object)", "/read/none", Script.CALLBACK, "ctx");
        script.step("config", zk, "getConfig(boolean,Stat)", false, new Stat());
        script.step("config, watcher", zk, "getConfig(Watcher,Stat)", null, new Stat());
        script.step("async config", zk, "getConfig(boolean,DataCallback,Object)", false, Script.CALLBACK, "ctx");
        script.step("async config, watcher", zk, "getConfig(Watcher,DataCallback,Object)", null, Script.CALLBACK, "ctx");
    }

    private void write() throws Exception {
        script.section("write", zk);
        zk.create("/write/p", bytes("value"), OPEN, CreateMode.PERSISTENT);
        String set = "setData(String,byte[],int)";
        script.step("any version", zk, set, "/write/p", bytes("second"), -1);
        script.step("right version", zk, set, "/write/p", bytes(""), 1);
        script.step("wrong version", zk, set, "/write/p", bytes("x"), 1);
        script.step("version -2", zk, set, "/write/p", bytes("x"), -2);
        script.step("null", zk, set, "/write/p", null, 2);
        script.step("none", zk, set, "/write/none", bytes("x"), -1);
        script.step("root", zk, set, "/", bytes("root"), -1);
        script.step("zookeeper", zk, set, "/zookeeper", bytes("z"), -1);
        script.step("config is not for clients", zk, set, "/zookeeper/config", bytes("z"), -1);
        Script.Witness main = script.witness("main").hold(true);
        script.step("too long a frame", zk, set, "/write/p", new byte[1_048_600], -1);
        script.until("connected again", "connected", () -> main.saw(KeeperState.SyncConnected));
        script.step("still as it was", zk, "getData(String,boolean,Stat)", "/write/p", false, new Stat());
        String async = "setData(String,byte[],int,StatCallback,Object)";
        script.step("async", zk, async, "/write/p", bytes("third"), -1, Script.CALLBACK, "ctx");
        script.step("async wrong version", zk, async, "/write/p", bytes("third"), 77, Script.CALLBACK, "ctx");
        script.step("async none", zk, async, "/write/none", bytes("third"), -1, Script.CALLBACK, "ctx");
        script.step("stat in the end", zk, "exists(String,boolean)", "/write/p", false);
    }

    private void children() throws Exception {
        script.section("list", zk);
        zk.create("/list/a", bytes("1"), OPEN, CreateMode.PERSISTENT);
        zk.create("/list/b", bytes("22"), OPEN, CreateMode.EPHEMERAL);
        zk.create("/list/a/c", bytes("333"), OPEN, CreateMode.PERSISTENT);
        zk.create("/list/a/d", bytes("333"), OPEN, CreateMode.EPHEMERAL);
        zk.delete("/list/a/c", 0);
        for (String path : List.of("/", "/list", "/list/a", "/list/b", "/list/none", "/zookeeper")) {
            script.step("names " + path, zk, "getChildren(String,boolean)", path, false);
            script.step("names and stat " + path, zk, "getChildren(String,boolean,Stat)", path, false, new Stat());
            script.step("count " + path, zk, "getAllChildrenNumber(String)", path);
        }
        script.step("names, no watcher", zk, "getChildren(String,Watcher)", "/list", null);
        script.step("names and stat, no watcher", zk, "getChildren(String,Watcher,Stat)", "/list", null, new Stat());
        for (String path : List.of("/list", "/list/none")) {
            script.step("async names " + path, zk, "getChildren(String,boolean,ChildrenCallback,Object)", path, false, Script.CALLBACK, 1);
            script.step("async names, watcher " + path, zk, "getChildren(String,Watcher,ChildrenCallback,Object)", path, null,
                Script.CALLBACK, 2);
            script.step("async stat " + path, zk, "getChildren(String,boolean,Children2Callback,Object)", path, false, Script.CALLBACK, 3);
            script.step("async stat, watcher " + path, zk, "getChildren(String,Watcher,Children2Callback,Object)", path, null,
                Script.CALLBACK, 4);
            script.step("async count " + path, zk, "getAllChildrenNumber(String,AllChildrenNumberCallback,Object)", path,
                Script.CALLBACK, 5);
        }
        script.step("ephemerals", zk, "getEphemerals()");
        for (String prefix : List.of("/", "/list", "/li", "/list/a/", "/none")) {
            script.step("ephemerals of " + prefix, zk, "getEphemerals(String)", prefix);
            script.step("async ephemerals of " + prefix, zk, "getEphemerals(String,EphemeralsCallback,Object)", prefix,
                Script.CALLBACK, "ctx");
        }
        script.step("async ephemerals", zk, "getEphemerals(EphemeralsCallback,Object)", Script.CALLBACK, "ctx");
    }

    private void delete() throws Exception {
        script.section("delete", zk);
        for (String name : List.of("a", "a/b", "c", "d")) {
            zk.create("/delete/" + name, bytes("x"), OPEN, CreateMode.PERSISTENT);
        }
        String delete = "delete(String,int)";
        script.step("not empty", zk, delete, "/delete/a", -1);
        script.step("not empty and wrong version", zk, delete, "/delete/a", 5);
        script.step("wrong version", zk, delete, "/delete/c", 1);
        script.step("right version", zk, delete, "/delete/c", 0);
        script.step("any version", zk, delete, "/delete/a/b", -1);
        script.step("none", zk, delete, "/delete/c", -1);
        for (String path : List.of("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")) {
            script.step("special " + path, zk, delete, path, -1);
        }
        script.step("below zookeeper", zk, delete, "/zookeeper/mine", -1);
        String async = "delete(String,int,VoidCallback,Object)";
        script.step("async", zk, async, "/delete/d", -1, Script.CALLBACK, "ctx");
        script.step("async none", zk, async, "/delete/d", -1, Script.CALLBACK, "ctx");
        script.step("async not empty", zk, async, "/delete", -1, Script.CALLBACK, "ctx");
        script.step("stat of the parent", zk, "exists(String,boolean)", "/delete", false);
        script.step("sequence counts the deleted", zk, "create(String,byte[],List,CreateMode)", "/delete/s", bytes(""), OPEN,
            CreateMode.PERSISTENT_SEQUENTIAL);
    }
}
