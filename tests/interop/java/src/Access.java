import java.util.Arrays;
import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** Who may do what: ACLs, digest, ip, super, and a stranger who is refused each operation. */
final class Access {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private final Script script;
    private final ZooKeeper zk;
    private final int port;

    Access(Script script, ZooKeeper zk, int port) {
        this.script = script;
        this.zk = zk;
        this.port = port;
    }

    private static List<ACL> acl(int perms, String scheme, String id) {
        return Arrays.asList(new ACL(perms, new Id(scheme, id))); // The client asks a list whether it has null: List.of throws.
    }

    void run() throws Exception {
        acls();
        strangers();
    }

    private void acls() throws Exception {
        script.section("acl", zk);
        String set = "setACL(String,List,int)";
        String get = "getACL(String,Stat)";
        zk.create("/acl/p", null, OPEN, CreateMode.PERSISTENT);
        for (String path : List.of("/", "/zookeeper", "/zookeeper/config", "/acl/p", "/acl/none")) {
            script.step("of " + path, zk, get, path, new Stat());
        }
        script.step("who I am at first", zk, "whoAmI()");
        script.step("auth without any", zk, set, "/acl/p", Ids.CREATOR_ALL_ACL, -1);
        script.step("authenticate", zk, "addAuthInfo(String,byte[])", "digest", Nodes.bytes("user:pass"));
        script.step("who I am now", zk, "whoAmI()");
        script.step("auth becomes the digest", zk, set, "/acl/p", Ids.CREATOR_ALL_ACL, -1);
        script.step("as stored", zk, get, "/acl/p", new Stat());
        script.step("authenticate twice", zk, "addAuthInfo(String,byte[])", "digest", Nodes.bytes("second:pass"));
        script.step("who I am at last", zk, "whoAmI()");
        script.step("wrong version", zk, set, "/acl/p", OPEN, 0);
        script.step("right version", zk, set, "/acl/p", OPEN, 1);
        script.step("none", zk, set, "/acl/none", OPEN, -1);
        script.step("no entry", zk, set, "/acl/p", List.of(), -1);
        script.step("null", zk, set, "/acl/p", null, -1);
        int n = 0;
        for (List<ACL> acl : List.of(acl(31, "world", "somebody"), acl(31, "digest", "nocolon"), acl(31, "digest", "a:b:c"),
            acl(31, "digest", "a:b"), acl(31, "ip", "10.0.0.1"), acl(31, "ip", "10.0.0.0/8"), acl(31, "ip", "10.0.0.0/33"),
            acl(31, "ip", "10.0.0"), acl(31, "nonsense", "x"), acl(31, "super", "x"), acl(31, "sasl", "x"), acl(31, "x509", "CN=x"),
            acl(31, "auth", "whatever"), acl(0, "world", "anyone"), acl(1, "world", "anyone"), acl(16, "world", "anyone"))) {
            String path = "/acl/" + n++;
            zk.create(path, null, OPEN, CreateMode.PERSISTENT);
            script.step("set " + script.mask.show(acl), zk, set, path, acl, -1);
            script.step("get behind " + script.mask.show(acl), zk, get, path, new Stat());
            script.step("change behind " + script.mask.show(acl), zk, set, path, OPEN, -1);
        }
        script.step("twice the same", zk, set, "/acl/p",
            Arrays.asList(OPEN.get(0), acl(1, "ip", "127.0.0.1").get(0), OPEN.get(0)), -1);
        script.step("once in the list", zk, get, "/acl/p", new Stat());
        String async = "setACL(String,List,int,StatCallback,Object)";
        script.step("async", zk, async, "/acl/p", OPEN, -1, Script.CALLBACK, "ctx");
        script.step("async wrong version", zk, async, "/acl/p", OPEN, 99, Script.CALLBACK, "ctx");
        script.step("async none", zk, async, "/acl/none", OPEN, -1, Script.CALLBACK, "ctx");
        script.step("async get", zk, "getACL(String,Stat,ACLCallback,Object)", "/acl/p", new Stat(), Script.CALLBACK, "ctx");
        script.step("async get none", zk, "getACL(String,Stat,ACLCallback,Object)", "/acl/none", new Stat(), Script.CALLBACK, "ctx");
        script.step("create with a bad one", zk, "create(String,byte[],List,CreateMode)", "/acl/bad", null,
            acl(31, "nonsense", "x"), CreateMode.PERSISTENT);
    }

    private void strangers() throws Exception {
        script.section("noauth", zk);
        zk.create("/noauth/mine", Nodes.bytes("secret"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        zk.create("/noauth/mine/child", null, OPEN, CreateMode.PERSISTENT);
        zk.create("/noauth/readers", Nodes.bytes("public"), Arrays.asList(Ids.CREATOR_ALL_ACL.get(0), Ids.READ_ACL_UNSAFE.get(0)),
            CreateMode.PERSISTENT);
        zk.create("/noauth/here", Nodes.bytes("local"), acl(Perms.ALL, "ip", "127.0.0.0/8"), CreateMode.PERSISTENT);
        zk.create("/noauth/elsewhere", Nodes.bytes("far"), acl(Perms.ALL, "ip", "10.1.2.3"), CreateMode.PERSISTENT);
        Script.Witness watcher = script.witness("stranger");
        ZooKeeper stranger = (ZooKeeper) script.step("a stranger", ZooKeeper.class, "new(String,int,Watcher)",
            "127.0.0.1:" + port, 10000, watcher);
        script.mask.session(stranger.getSessionId(), "stranger");
        for (String name : List.of("mine", "readers", "here", "elsewhere")) {
            String path = "/noauth/" + name;
            script.step("get " + name, stranger, "getData(String,boolean,Stat)", path, false, new Stat());
            script.step("exists " + name, stranger, "exists(String,boolean)", path, false);
            script.step("set " + name, stranger, "setData(String,byte[],int)", path, Nodes.bytes("x"), -1);
            script.step("list " + name, stranger, "getChildren(String,boolean)", path, false);
            script.step("list with stat " + name, stranger, "getChildren(String,boolean,Stat)", path, false, new Stat());
            script.step("count " + name, stranger, "getAllChildrenNumber(String)", path);
            script.step("get the acl of " + name, stranger, "getACL(String,Stat)", path, new Stat());
            script.step("set the acl of " + name, stranger, "setACL(String,List,int)", path, OPEN, -1);
            script.step("create below " + name, stranger, "create(String,byte[],List,CreateMode)", path + "/x", null, OPEN,
                CreateMode.PERSISTENT);
            script.step("delete below " + name, stranger, "delete(String,int)", path + "/child", -1);
        }
        script.step("refused before version", stranger, "setData(String,byte[],int)", "/noauth/mine", null, 77);
        script.step("refused before existence", stranger, "delete(String,int)", "/noauth/mine/none", -1);
        Script.Witness eye = script.witness("stranger's watch");
        script.step("watch all", stranger, "addWatch(String,Watcher,AddWatchMode)", "/noauth", eye, AddWatchMode.PERSISTENT_RECURSIVE);
        script.step("watch for a secret", stranger, "exists(String,Watcher)", "/noauth/secret", eye);
        script.step("a secret appears", zk, "create(String,byte[],List,CreateMode)", "/noauth/secret", null, Ids.CREATOR_ALL_ACL,
            CreateMode.PERSISTENT);
        script.step("it changes", zk, "setData(String,byte[],int)", "/noauth/secret", null, -1);
        script.step("below it", zk, "create(String,byte[],List,CreateMode)", "/noauth/secret/open", null, OPEN, CreateMode.PERSISTENT);
        script.step("not below it", zk, "delete(String,int)", "/noauth/secret/open", -1);
        script.step("it goes", zk, "delete(String,int)", "/noauth/secret", -1);
        script.step("what is open appears", zk, "create(String,byte[],List,CreateMode)", "/noauth/open", null, OPEN, CreateMode.PERSISTENT);
        script.step("what is open goes", zk, "delete(String,int)", "/noauth/open", -1);
        script.step("wrong password", stranger, "addAuthInfo(String,byte[])", "digest", Nodes.bytes("user:wrong"));
        script.step("still refused", stranger, "getData(String,boolean,Stat)", "/noauth/mine", false, new Stat());
        script.step("right password", stranger, "addAuthInfo(String,byte[])", "digest", Nodes.bytes("user:pass"));
        script.step("let in", stranger, "getData(String,boolean,Stat)", "/noauth/mine", false, new Stat());
        script.step("super", stranger, "addAuthInfo(String,byte[])", "digest", Nodes.bytes("super:secret"));
        script.step("who super is", stranger, "whoAmI()");
        script.step("super sees all", stranger, "getData(String,boolean,Stat)", "/noauth/elsewhere", false, new Stat());
        script.step("super changes all", stranger, "setACL(String,List,int)", "/noauth/elsewhere", OPEN, -1);
        script.step("ip is no password", stranger, "addAuthInfo(String,byte[])", "ip", Nodes.bytes(""));
        watcher.hold(true);
        eye.hold(true);
        script.step("a scheme nobody knows", stranger, "addAuthInfo(String,byte[])", "nonsense", Nodes.bytes("x"));
        script.until("refused for good", "authentication failed", () -> watcher.saw(KeeperState.AuthFailed));
        script.step("state", stranger, "getState()");
        script.step("nothing works now", stranger, "exists(String,boolean)", "/noauth", false);
        script.forget(stranger);
        script.endSession(stranger, "127.0.0.1:" + port);
        script.step("close", stranger, "close()");
        script.step("nothing was kept", zk, "getChildren(String,boolean)", "/noauth/mine", false);
    }
}
