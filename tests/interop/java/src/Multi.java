import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Transaction;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/** Several operations as one, written and read. */
final class Multi {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private final Script script;
    private final ZooKeeper zk;

    Multi(Script script, ZooKeeper zk) {
        this.script = script;
        this.zk = zk;
    }

    /** An operation made by one of {@code Op}'s factories, which count as calls too. */
    private Op op(String signature, Object... args) throws Exception {
        return (Op) script.calls.use(Op.class, signature, args);
    }

    private Op create(String path, CreateMode mode) throws Exception {
        return op("create(String,byte[],List,CreateMode)", path, Nodes.bytes("x"), OPEN, mode);
    }

    private Op delete(String path, int version) throws Exception {
        return op("delete(String,int)", path, version);
    }

    private Op set(String path, int version) throws Exception {
        return op("setData(String,byte[],int)", path, Nodes.bytes("y"), version);
    }

    private Op check(String path, int version) throws Exception {
        return op("check(String,int)", path, version);
    }

    void run() throws Exception {
        String multi = "multi(Iterable)";
        String async = "multi(Iterable,MultiCallback,Object)";
        script.section("multi", zk);
        Op[] all = {
            create("/multi/a", CreateMode.PERSISTENT), create("/multi/a/b", CreateMode.EPHEMERAL), set("/multi/a", 0),
            check("/multi/a", 1), delete("/multi/a/b", 0), create("/multi/a/s-", CreateMode.PERSISTENT_SEQUENTIAL),
            create("/multi/a/s-", CreateMode.EPHEMERAL_SEQUENTIAL), create("/multi/c", CreateMode.CONTAINER),
            op("create(String,byte[],List,int)", "/multi/flags", null, OPEN, 2),
            op("create(String,byte[],List,int,long)", "/multi/ttl-flags", null, OPEN, 5, 3_600_000L),
            op("create(String,byte[],List,CreateMode,long)", "/multi/ttl", null, OPEN, CreateMode.PERSISTENT_WITH_TTL, 3_600_000L),
        };
        for (int i = 0; i < all.length; i++) {
            script.step("type " + i, all[i], "getType()");
            script.step("path " + i, all[i], "getPath()");
            script.step("kind " + i, all[i], "getKind()");
            script.step("record " + i, all[i], "toRequestRecord()");
        }
        script.step("everything at once", zk, multi, List.of(all));
        script.step("what it made", zk, "getChildren(String,boolean,Stat)", "/multi", false, new Stat());
        script.step("what it made below", zk, "getChildren(String,boolean,Stat)", "/multi/a", false, new Stat());
        script.step("none", zk, multi, List.of());
        script.step("the third fails", zk, multi, List.of(create("/multi/x", CreateMode.PERSISTENT), set("/multi/a", -1),
            delete("/multi/none", -1), create("/multi/y", CreateMode.PERSISTENT)));
        script.step("nothing was done", zk, "getChildren(String,boolean,Stat)", "/multi", false, new Stat());
        script.step("check fails", zk, multi, List.of(check("/multi/a", 9), set("/multi/a", -1)));
        script.step("check of none", zk, multi, List.of(check("/multi/none", -1)));
        script.step("exists already", zk, multi, List.of(create("/multi/a", CreateMode.PERSISTENT)));
        script.step("bad flags", zk, multi, List.of(op("create(String,byte[],List,int)", "/multi/f", null, OPEN, 7)));
        script.step("bad acl", zk, multi, List.of(op("create(String,byte[],List,int)", "/multi/f", null, List.of(), 0)));
        script.step("delete and create again", zk, multi,
            List.of(delete("/multi/flags0000000002", -1), create("/multi/flags0000000002", CreateMode.EPHEMERAL)));
        script.step("version of a node just made", zk, multi,
            List.of(create("/multi/v", CreateMode.PERSISTENT), set("/multi/v", 0), set("/multi/v", 1), check("/multi/v", 2)));
        script.step("async", zk, async, List.of(create("/multi/z", CreateMode.PERSISTENT), delete("/multi/z", 0)), Script.CALLBACK, "ctx");
        script.step("async fails", zk, async, List.of(create("/multi/z", CreateMode.PERSISTENT), delete("/multi/none", 0)),
            Script.CALLBACK, "ctx");
        script.step("async none", zk, async, List.of(), Script.CALLBACK, "ctx");

        Op data = op("getData(String)", "/multi/v");
        Op names = op("getChildren(String)", "/multi/a");
        script.step("kind of a read", data, "getKind()");
        script.step("reads", zk, multi, List.of(data, names, op("getData(String)", "/multi/none"), op("getChildren(String)", "/multi/none"), data));
        script.step("a read refused", zk, multi, List.of(op("getData(String)", "/noauth/elsewhere"), op("getData(String)", "/noauth/mine")));
        script.step("async reads", zk, async, List.of(data, names), Script.CALLBACK, "ctx");
        script.step("reads and writes mixed", zk, multi, List.of(data, set("/multi/v", -1)));

        Transaction transaction = (Transaction) script.step("transaction", zk, "transaction()");
        script.step("transaction create", transaction, "create(String,byte[],List,CreateMode)", "/multi/t", null, OPEN, CreateMode.PERSISTENT);
        script.step("transaction set", transaction, "setData(String,byte[],int)", "/multi/t", Nodes.bytes("t"), 0);
        script.step("transaction check", transaction, "check(String,int)", "/multi/t", 1);
        script.step("transaction delete", transaction, "delete(String,int)", "/multi/t", 1);
        script.step("commit", transaction, "commit()");
        script.step("commit again, async", transaction, "commit(MultiCallback,Object)", Script.CALLBACK, "ctx");
        Transaction bad = zk.transaction().check("/multi/none", 1);
        script.step("commit fails", bad, "commit()");
        script.step("commit fails, async", bad, "commit(MultiCallback,Object)", Script.CALLBACK, "ctx");
        script.step("zxids in the end", zk, "create(String,byte[],List,CreateMode,Stat)", "/multi/end", null, OPEN, CreateMode.PERSISTENT,
            new Stat());
    }
}
