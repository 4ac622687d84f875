import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/** What servers do by themselves (reaping, quotas), and what an administrator asks for. */
final class Special {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private static final String CREATE = "create(String,byte[],List,CreateMode)";
    private static final String SET = "setData(String,byte[],int)";
    private static final String GET = "getData(String,boolean,Stat)";
    private final Script script;
    private final ZooKeeper zk;
    private final int port;

    Special(Script script, ZooKeeper zk, int port) {
        this.script = script;
        this.zk = zk;
        this.port = port;
    }

    void run() throws Exception {
        reaped();
        quotas();
        administrator();
    }

    private void reaped() throws Exception {
        script.section("reap", zk);
        Script.Witness watch = script.witness("reaper");
        zk.addWatch("/reap", watch.hold(true), AddWatchMode.PERSISTENT_RECURSIVE);
        script.step("container", zk, CREATE, "/reap/c", null, OPEN, CreateMode.CONTAINER);
        script.step("container never used", zk, CREATE, "/reap/unused", null, OPEN, CreateMode.CONTAINER);
        script.step("its child", zk, CREATE, "/reap/c/x", null, OPEN, CreateMode.PERSISTENT);
        script.step("lasting", zk, "create(String,byte[],List,CreateMode,Stat,long)", "/reap/lasting", null, OPEN,
            CreateMode.PERSISTENT_WITH_TTL, new Stat(), 3_600_000L);
        script.step("its child goes", zk, "delete(String,int)", "/reap/c/x", -1);
        script.until("container reaped", "gone", () -> gone("/reap/c"));
        watch.hold(true);
        script.step("passing", zk, "create(String,byte[],List,CreateMode,Stat,long)", "/reap/passing", null, OPEN,
            CreateMode.PERSISTENT_WITH_TTL, new Stat(), 1L);
        script.until("ttl reaped", "gone", () -> gone("/reap/passing"));
        script.step("what stays", zk, "getChildren(String,boolean,Stat)", "/reap", false, new Stat());
    }

    private boolean gone(String path) {
        try {
            return zk.exists(path, false) == null;
        } catch (Exception e) {
            return false;
        }
    }

    private boolean set(String path, byte[] data) {
        try {
            return zk.setData(path, data, -1) != null;
        } catch (Exception e) {
            return false;
        }
    }

    private void quotas() throws Exception {
        script.section("quota", zk);
        zk.create("/quota/a", Nodes.bytes("12345"), OPEN, CreateMode.PERSISTENT);
        String top = "/zookeeper/quota/quota";
        script.step("node", zk, CREATE, top, null, OPEN, CreateMode.PERSISTENT);
        script.step("limits", zk, CREATE, top + "/zookeeper_limits", Nodes.bytes("count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=4"),
            OPEN, CreateMode.PERSISTENT);
        script.step("stats", zk, CREATE, top + "/zookeeper_stats", Nodes.bytes("count=0,bytes=0"), OPEN, CreateMode.PERSISTENT);
        script.step("counted", zk, GET, top + "/zookeeper_stats", false, new Stat());
        script.step("third node", zk, CREATE, "/quota/b", Nodes.bytes("12345"), OPEN, CreateMode.PERSISTENT);
        script.step("counted again", zk, GET, top + "/zookeeper_stats", false, new Stat());
        script.step("too many bytes", zk, CREATE, "/quota/c", Nodes.bytes("12345678901"), OPEN, CreateMode.PERSISTENT);
        script.step("as many as allowed", zk, CREATE, "/quota/c", Nodes.bytes("1234567890"), OPEN, CreateMode.PERSISTENT);
        script.step("one node too many", zk, CREATE, "/quota/d", null, OPEN, CreateMode.PERSISTENT);
        script.step("one byte too many", zk, SET, "/quota/b", Nodes.bytes("123456"), -1);
        script.step("fewer bytes", zk, SET, "/quota/b", Nodes.bytes("1234"), -1);
        script.step("in a multi", zk, "multi(Iterable)", List.of(Op.delete("/quota/a", -1), Op.create("/quota/e", null, OPEN,
            CreateMode.PERSISTENT), Op.create("/quota/f", null, OPEN, CreateMode.PERSISTENT)));
        script.step("counted at last", zk, GET, top + "/zookeeper_stats", false, new Stat());
        script.step("soft limits", zk, SET, top + "/zookeeper_limits", Nodes.bytes("count=1,bytes=1"), -1);
        // Apache's leader may check a follower's next write before it has applied this one.
        script.until("the leader knows", "bytes do not matter", () -> set("/quota/b", new byte[100]));
        script.step("over a soft limit", zk, CREATE, "/quota/g", Nodes.bytes("123456789012345"), OPEN, CreateMode.PERSISTENT);
        script.step("no more limits", zk, "delete(String,int)", top + "/zookeeper_limits", -1);
        script.step("no limit", zk, CREATE, "/quota/h", Nodes.bytes("123456789012345"), OPEN, CreateMode.PERSISTENT);
        script.step("stats go", zk, "delete(String,int)", top + "/zookeeper_stats", -1);
        script.step("node goes", zk, "delete(String,int)", top, -1);
    }

    private void administrator() throws Exception {
        script.section("admin", zk);
        ZooKeeperAdmin admin = (ZooKeeperAdmin) script.step("connect", ZooKeeperAdmin.class, "new(String,int,Watcher)",
            "127.0.0.1:" + port, 10000, script.witness("admin"));
        script.mask.session(admin.getSessionId(), "admin");
        admin.addAuthInfo("digest", Nodes.bytes("super:secret"));
        List<String> some = List.of("server.9=127.0.0.1:1:2;3");
        script.step("by text", admin, "reconfigure(String,String,String,long,Stat)", some.get(0), null, null, -1L, new Stat());
        script.step("by lists", admin, "reconfigure(List,List,List,long,Stat)", null, List.of("1"), null, -1L, new Stat());
        script.step("async by text", admin, "reconfigure(String,String,String,long,DataCallback,Object)", null, null, some.get(0), -1L,
            Script.CALLBACK, "ctx");
        script.step("async by lists", admin, "reconfigure(List,List,List,long,DataCallback,Object)", some, List.of("1"), null, 5L,
            Script.CALLBACK, "ctx");
        script.step("zxids", admin, "create(String,byte[],List,CreateMode,Stat)", "/admin/after", null, OPEN, CreateMode.PERSISTENT,
            new Stat());
        script.forget(admin);
        script.step("close", admin, "close()");
    }
}
