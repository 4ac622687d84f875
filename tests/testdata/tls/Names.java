// Writes names.txt: distinguished names as DER, and as Java prints them. Run by make.sh.
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import javax.security.auth.x500.X500Principal;

public class Names {
    static byte[] tlv(int tag, byte[]... parts) {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        for (byte[] part : parts) body.writeBytes(part);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(tag);
        int n = body.size();
        if (n >= 256) { out.write(0x82); out.write(n >> 8); } else if (n >= 128) { out.write(0x81); }
        out.write(n);
        out.writeBytes(body.toByteArray());
        return out.toByteArray();
    }

    static byte[] attribute(String oidHex, int tag, byte[] value) {
        return tlv(0x30, tlv(0x06, HexFormat.of().parseHex(oidHex)), tlv(tag, value));
    }

    static byte[] attribute(String oidHex, int tag, String value) {
        return attribute(oidHex, tag, value.getBytes(StandardCharsets.UTF_8));
    }

    static byte[] name(byte[]... attributes) {
        byte[][] parts = new byte[attributes.length][];
        for (int i = 0; i < parts.length; i++) parts[i] = tlv(0x31, attributes[i]);
        return tlv(0x30, parts);
    }

    static void print(byte[] der) {
        String name = new X500Principal(der).getName();
        HexFormat hex = HexFormat.of();
        System.out.println(hex.formatHex(der) + "\t" + hex.formatHex(name.getBytes(StandardCharsets.UTF_8)) + "\t"
            + name.replaceAll("[^\\x20-\\x7e]", "?"));
    }

    public static void main(String[] arguments) {
        System.out.println("# Made by make.sh: a name as DER, UTF-8 of what Java prints for it, the same to be read by people.");
        String cn = "550403", o = "55040a", ou = "55040b", c = "550406", l = "550407", st = "550408", street = "550409";
        String uid = "0992268993f22c640101", dc = "0992268993f22c640119", email = "2a864886f70d010901";
        int utf8 = 0x0c, printable = 0x13, t61 = 0x14, ia5 = 0x16, bmp = 0x1e;
        for (String text : new String[] {
            "CN=client", "CN=a, OU=b, O=c, L=d, ST=e, C=DE", "UID=u, DC=example, DC=org", "STREET=Main 1, CN=x",
            "EMAILADDRESS=a@b.c, CN=mail", "CN=\"with, comma\", O=\"a+b=c<d>e#f;g\"", "CN=quote\\\"back\\\\slash",
            "CN=\\#sharp", "CN=M\u00fcller \u4e2d\u6587 \ud83d\ude00", "SERIALNUMBER=12, CN=device",
            "T=title, GIVENNAME=g, SURNAME=s, CN=person", "DNQ=q, CN=p", "CN=a+OU=b, O=c", "", "1.2.3.4=x, CN=oid",
            "CN=/slash@at:colon'apos", "CN=tab\there",
        }) print(new X500Principal(text).getEncoded());
        print(name(attribute(cn, utf8, "\0null\0"), attribute(o, utf8, "\rreturn\r")));
        print(name(attribute(cn, t61, "teletex")));
        print(name(attribute(cn, ia5, "ia5")));
        print(name(attribute(cn, bmp, "bmp".getBytes(StandardCharsets.UTF_16BE))));
        print(name(attribute(cn, 0x1b, "general"), attribute(cn, 0x12, "123"), attribute(cn, 0x1a, "visible")));
        print(name(attribute(dc, ia5, "org"), attribute(dc, ia5, "example"), attribute(cn, printable, "p")));
        print(name(attribute(email, ia5, "a@b.c"), attribute(cn, utf8, "m")));
        print(name(attribute(c, printable, "DE"), attribute(st, utf8, "S"), attribute(l, utf8, "L"),
            attribute(street, utf8, "R"), attribute(uid, utf8, "U"), attribute(ou, utf8, "Q")));
        // Several attributes in one part: in order, and not in DER's order.
        print(tlv(0x30, tlv(0x31, attribute(cn, utf8, "a"), attribute(ou, utf8, "b"))));
        print(tlv(0x30, tlv(0x31, attribute(ou, utf8, "b"), attribute(cn, utf8, "a")), tlv(0x31, attribute(o, utf8, "o"))));
        print(name(attribute(cn, utf8, "  blanks  ")));
        print(name(attribute(cn, utf8, " ")));
        print(name(attribute(cn, utf8, "")));
        print(name(attribute(cn, utf8, new byte[] {'b', (byte) 0xff, (byte) 0xc3, 'x'})));
        print(name(attribute(cn, utf8, "x".repeat(300))));
        print(name(attribute(cn, 0x03, new byte[] {0, 1})));
    }
}
