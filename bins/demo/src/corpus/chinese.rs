//! The Chinese topics: the same kinds of text as the English ones, but not translations of them.

use super::Topic;
use crate::random::Random;

pub const TOPICS: [Topic; 9] = [animal, city, sum, purchase, how_to, diary, comparison, lost_and_found, tool];

struct Animal {
    name: &'static str,
    kind: &'static str,
    place: &'static str,
    food: &'static str,
    habit: &'static str,
}

const fn a(
    name: &'static str,
    kind: &'static str,
    place: &'static str,
    food: &'static str,
    habit: &'static str,
) -> Animal {
    Animal { name, kind, place, food, habit }
}

const ANIMALS: [Animal; 20] = [
    a("水獭", "哺乳动物", "清澈的河流里", "鱼和螃蟹", "休息时会仰面漂在水上"),
    a("大熊猫", "熊类动物", "中国西部的山林里", "竹子", "一天里大部分时间都在进食"),
    a("骆驼", "哺乳动物", "干旱的沙漠里", "带刺的植物", "可以一个星期不喝水"),
    a("企鹅", "鸟类", "寒冷的南方海岸上", "小鱼", "会游泳，却不会飞"),
    a("猫头鹰", "鸟类", "老树的洞里", "田鼠", "夜里捕食时没有一点声音"),
    a("丹顶鹤", "鸟类", "开阔的湿地里", "草根、昆虫和小鱼", "筑巢之前会翩翩起舞"),
    a("蜜蜂", "昆虫", "蜂巢里", "花蜜和花粉", "用舞蹈告诉同伴花在哪里"),
    a("蚂蚁", "昆虫", "地下的巢穴里", "种子和甜汁", "能搬动比自己重得多的东西"),
    a("海龟", "爬行动物", "温暖的大海里", "海草", "会回到自己出生的沙滩产卵"),
    a("壁虎", "爬行动物", "墙壁和岩石上", "飞蛾和苍蝇", "能在玻璃上爬行"),
    a("鲑鱼", "鱼类", "大海和清凉的溪水里", "虾和小鱼", "会逆流而上去产卵"),
    a("青蛙", "两栖动物", "安静的池塘边", "蚊虫", "小时候是蝌蚪"),
    a("蝙蝠", "哺乳动物", "山洞里", "飞蛾", "靠回声辨别方向"),
    a("河狸", "哺乳动物", "林间的小溪里", "树皮和树叶", "会用树枝筑起水坝"),
    a("袋鼠", "哺乳动物", "澳大利亚的草原上", "青草", "把幼崽放在育儿袋里"),
    a("松鼠", "哺乳动物", "茂密的树林里", "松子和坚果", "会为冬天埋下食物"),
    a("刺猬", "哺乳动物", "草丛和菜园里", "甲虫和蛞蝓", "害怕时会缩成一个球"),
    a("牦牛", "哺乳动物", "青藏高原上", "青草和苔藓", "靠一身长毛抵御寒冷"),
    a("海豚", "哺乳动物", "宽阔的海洋里", "鱼和乌贼", "和人一样用肺呼吸"),
    a("燕子", "鸟类", "屋檐下", "飞虫", "秋天会飞往南方"),
];

fn animal(random: &mut Random) -> String {
    let Animal { name, kind, place, food, habit } = random.pick(&ANIMALS);
    match random.index(4) {
        0 => format!("{name}是一种{kind}，生活在{place}。它吃{food}，{habit}。"),
        1 => format!("问：{name}住在哪里，吃什么？\n答：它住在{place}，吃{food}。"),
        2 => format!("在{place}，有时能看到{name}。这种{kind}吃{food}，{habit}。"),
        _ => format!("关于{name}，我们知道些什么呢？它属于{kind}，生活在{place}，{habit}。"),
    }
}

/// (city, where it is, water, what it is known for)
const CITIES: [(&str, &str, &str, &str); 18] = [
    ("上海", "中国东部", "黄浦江", "高楼和老弄堂"),
    ("武汉", "中国中部", "长江", "樱花和热干面"),
    ("广州", "中国南部", "珠江", "早茶"),
    ("兰州", "中国西北部", "黄河", "牛肉面"),
    ("杭州", "中国东部", "钱塘江", "西湖和龙井茶"),
    ("成都", "中国西南部", "锦江", "茶馆和火锅"),
    ("重庆", "中国西南部", "嘉陵江", "山城夜景"),
    ("哈尔滨", "中国东北部", "松花江", "冰灯"),
    ("长沙", "中国中部", "湘江", "岳麓书院"),
    ("南京", "中国东部", "秦淮河", "古城墙"),
    ("天津", "中国北部", "海河", "相声和麻花"),
    ("桂林", "中国南部", "漓江", "奇特的山峰"),
    ("巴黎", "法国", "塞纳河", "博物馆和咖啡馆"),
    ("伦敦", "英国", "泰晤士河", "桥梁和公园"),
    ("开罗", "埃及", "尼罗河", "附近的金字塔"),
    ("罗马", "意大利", "台伯河", "喷泉"),
    ("首尔", "韩国", "汉江", "夜市"),
    ("布达佩斯", "匈牙利", "多瑙河", "温泉浴场"),
];

fn city(random: &mut Random) -> String {
    let (city, region, river, known) = random.pick(&CITIES);
    let name = random.pick(&NAMES);
    match random.index(4) {
        0 => format!("{city}位于{region}，{river}从城中流过。这座城市以{known}闻名。"),
        1 => format!("问：哪条河流经{city}？\n答：{river}流经{city}，这座城市在{region}。"),
        2 => format!("{name}在{city}住了一个星期，每天沿着{river}散步，还在信里写到了那里的{known}。"),
        _ => format!("很多人去{region}旅行时都会去{city}，因为那里的{known}很有名。"),
    }
}

const NAMES: [&str; 14] = [
    "小明",
    "小红",
    "王芳",
    "李伟",
    "张老师",
    "小刚",
    "陈静",
    "爷爷",
    "奶奶",
    "小丽",
    "阿强",
    "周叔叔",
    "刘阿姨",
    "赵敏",
];

/// (measure word, thing)
const COUNTED: [(&str, &str); 12] = [
    ("个", "苹果"),
    ("支", "铅笔"),
    ("张", "邮票"),
    ("颗", "弹珠"),
    ("本", "书"),
    ("个", "鸡蛋"),
    ("根", "蜡烛"),
    ("枚", "贝壳"),
    ("张", "明信片"),
    ("粒", "纽扣"),
    ("枚", "硬币"),
    ("颗", "李子"),
];

fn sum(random: &mut Random) -> String {
    let ((name, other), (measure, thing)) = (random.pick_two(&NAMES), random.pick(&COUNTED));
    let (first, second) = (random.between(2, 12), random.between(2, 9));
    let all = first + second;
    match random.index(4) {
        0 => format!("{name}有{first}{measure}{thing}，又买了{second}{measure}，现在一共有{all}{measure}{thing}。"),
        1 => format!("{name}原来有{all}{measure}{thing}，送给{other}{second}{measure}，还剩{first}{measure}。"),
        2 => {
            let product = first * second;
            format!(
                "架子上有{first}个盒子，每个盒子里有{second}{measure}{thing}。{first}乘{second}等于{product}，一共是{product}{measure}。"
            )
        }
        _ => format!("{name}和{other}平分{}{measure}{thing}，每人得到{first}{measure}。", first * 2),
    }
}

const GREENS: [&str; 10] = ["梨", "橙子", "桃子", "西红柿", "葡萄", "胡萝卜", "蘑菇", "柠檬", "樱桃", "土豆"];

fn purchase(random: &mut Random) -> String {
    let goods = random.pick(&GREENS);
    let (price, kilos) = (random.between(2, 9), random.between(2, 6));
    let (city, ..) = random.pick(&CITIES[..12]);
    let (hour, platform) = (random.between(6, 11), random.between(1, 12));
    match random.index(3) {
        0 => {
            let total = price * kilos;
            format!(
                "顾客：请问{goods}怎么卖？\n老板：{price}元一公斤。\n顾客：我要{kilos}公斤。\n老板：一共{total}元，谢谢。"
            )
        }
        1 => {
            let fare = price * 10;
            format!(
                "旅客：去{city}的下一趟火车几点开？\n售票员：上午{hour}点，在{platform}号站台。\n旅客：票价多少？\n售票员：{fare}元。"
            )
        }
        _ => format!(
            "客人：还有{kilos}个人的位子吗？\n服务员：有，在窗边。今天的{goods}很新鲜。\n客人：好，先来{kilos}份。"
        ),
    }
}

/// (task, first step, second step, last step)
const TASKS: [(&str, &str, &str, &str); 16] = [
    ("泡绿茶", "把水烧开", "让水凉两分钟", "把水倒在茶叶上"),
    ("煮米饭", "把米淘干净", "按一比一点五加水", "盖上锅盖用小火焖"),
    ("煮鸡蛋", "把鸡蛋放进冷水里", "加热到水开", "等八分钟"),
    ("种一棵树", "挖一个宽一些的坑", "放好树根并填上土", "浇足水"),
    ("补自行车胎", "卸下车轮", "找到破洞贴上补片", "重新打满气"),
    ("写一封信", "写好称呼", "用平实的话说清楚事情", "签上名字和日期"),
    ("刷墙", "把墙面擦干净", "用胶带贴好边缘", "薄薄地刷两遍"),
    ("洗毛衣", "接一盆凉水", "轻轻地揉出泡沫", "平铺着晾干"),
    ("包饺子", "和好面", "调好馅", "把馅包进皮里捏紧"),
    ("磨刀", "把磨刀石打湿", "让刀刃贴着石面来回推", "用纸试一试"),
    ("折纸船", "把纸对折", "把两角折到中间", "从下面撑开"),
    ("缝扣子", "把线穿进针眼", "在每个孔里来回缝几次", "在背面打一个结"),
    ("养好一盆花", "把它放在有光的地方", "土干了再浇水", "每周转一转花盆"),
    ("记住一个新词", "大声读几遍", "用它造一个句子", "过一天再用一次"),
    ("收拾行李", "列一张清单", "把重的东西放在下面", "把衬衫卷起来"),
    ("做水果沙拉", "把水果洗净", "切成小块", "挤上柠檬汁"),
];

fn how_to(random: &mut Random) -> String {
    let (task, first, second, last) = random.pick(&TASKS);
    let (name, friend) = random.pick_two(&NAMES);
    match random.index(4) {
        0 => format!("怎样{task}？先{first}，再{second}，最后{last}。"),
        1 => format!("想要{task}，第一步是{first}，第二步是{second}，第三步是{last}。"),
        2 => format!("{name}问：“怎么{task}呢？”{friend}回答：“先{first}，然后{second}，最后{last}就行了。”"),
        _ => format!("问：{task}的时候，首先要做什么？\n答：首先要{first}，然后才能{second}。"),
    }
}

const DAYS: [&str; 7] = ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期天"];

/// (weather, what one does about it)
const WEATHER: [(&str, &str); 8] = [
    ("下了一场大雨", "打了一把伞"),
    ("太阳很晒", "戴了一顶草帽"),
    ("下了雪", "穿上了厚靴子"),
    ("刮起了北风", "裹紧了大衣"),
    ("起了大雾", "走得很慢"),
    ("天空晴朗", "骑上了自行车"),
    ("打起了雷", "在桥下躲了一会儿"),
    ("天气暖和", "没有带外套"),
];

const ERRANDS: [(&str, &str); 10] = [
    ("去了图书馆", "借了两本关于星星的书"),
    ("去了菜市场", "买回一袋豆子"),
    ("看望了以前的老师", "陪她喝了茶"),
    ("在车站见了朋友", "聊起了夏天的事"),
    ("去了邮局", "给姑姑寄了一个包裹"),
    ("走路去了学校", "打扫了教室"),
    ("去了湖边", "数到了九只鸭子"),
    ("去了博物馆", "在一幅画前站了很久"),
    ("爬上了镇子后面的小山", "看到了整个山谷"),
    ("去了面包店", "买了一个还热着的面包"),
];

fn diary(random: &mut Random) -> String {
    let (day, (weather, answer)) = (random.pick(&DAYS), random.pick(&WEATHER));
    let (name, (errand, end)) = (random.pick(&NAMES), random.pick(&ERRANDS));
    match random.index(3) {
        0 => format!("{day}{weather}，{name}{answer}。下午，{name}{errand}，{end}。"),
        1 => format!("{day}，{name}{errand}。因为{weather}，所以{name}{answer}。后来，{name}{end}。"),
        _ => format!("今天是{day}。中午{weather}，我{answer}。后来我{errand}，{end}。"),
    }
}

/// (how they are compared, things from least to most)
const SCALES: [(&str, [&str; 6]); 5] = [
    ("重", ["老鼠", "兔子", "小狗", "绵羊", "马", "大象"]),
    ("快", ["蜗牛", "行人", "自行车", "汽车", "火车", "飞机"]),
    ("大", ["樱桃", "李子", "橙子", "西瓜", "大南瓜", "房子"]),
    ("长", ["一秒钟", "一分钟", "一小时", "一天", "一星期", "一年"]),
    ("热", ["冰块", "凉水", "洗澡水", "新泡的茶", "开水", "火焰"]),
];

fn comparison(random: &mut Random) -> String {
    let (more, things) = random.pick(&SCALES);
    let mut places = [0, 1, 2, 3, 4, 5];
    random.shuffle(&mut places);
    let mut three = [places[0], places[1], places[2]];
    three.sort_unstable();
    let [least, middle, most] = three.map(|place| things[place]);
    match random.index(4) {
        0 => format!("{most}比{middle}{more}，{middle}又比{least}{more}。"),
        1 => format!("{least}和{most}，哪个更{more}？{most}更{more}。"),
        2 => format!("{middle}比{least}{more}，可是{most}还要更{more}。"),
        _ => format!("{least}没有{middle}{more}，反过来说，{middle}比{least}{more}。"),
    }
}

/// (measure word, thing)
const LOST: [(&str, &str); 10] = [
    ("把", "钥匙"),
    ("条", "围巾"),
    ("张", "车票"),
    ("个", "笔记本"),
    ("块", "手表"),
    ("只", "手套"),
    ("支", "钢笔"),
    ("把", "雨伞"),
    ("张", "地图"),
    ("枚", "戒指"),
];

const WHERE: [&str; 10] = [
    "床底下",
    "沙发后面",
    "花园里",
    "公交车上",
    "大衣口袋里",
    "水井旁边",
    "厨房的桌子上",
    "两本书中间",
    "背包的最下面",
    "大门口",
];

fn lost_and_found(random: &mut Random) -> String {
    let ((name, friend), (measure, thing)) = (random.pick_two(&NAMES), random.pick(&LOST));
    let (first, second) = random.pick_two(&WHERE);
    match random.index(3) {
        0 => format!("{name}的{thing}不见了。{name}先在{first}找，没有找到，后来{friend}在{second}找到了它。"),
        1 => format!("{name}问：“你看见我的{thing}了吗？”{friend}说：“看见了，就在{second}。”"),
        _ => format!("{friend}在{first}捡到一{measure}{thing}，问是谁的。{name}说：“是我的，谢谢你！”"),
    }
}

/// (measure word, tool, what it is for, who uses it, where)
const TOOLS: [(&str, &str, &str, &str, &str); 16] = [
    ("把", "锤子", "钉钉子", "木匠", "工棚里"),
    ("根", "针", "缝布料", "裁缝", "缝纫桌上"),
    ("架", "望远镜", "看遥远的星星", "天文学家", "屋顶上"),
    ("支", "体温计", "量体温", "护士", "病床边"),
    ("个", "指南针", "辨认方向", "水手", "甲板上"),
    ("把", "铁锹", "翻土", "园丁", "菜地里"),
    ("个", "打蛋器", "打鸡蛋", "厨师", "厨房里"),
    ("架", "梯子", "够到高处", "油漆工", "墙边"),
    ("台", "秤", "称东西", "菜贩", "柜台上"),
    ("把", "算盘", "算账", "掌柜", "钱箱旁边"),
    ("支", "毛笔", "写字", "书法家", "书桌上"),
    ("张", "渔网", "捕鱼", "渔夫", "船上"),
    ("把", "锯子", "锯木头", "木工", "工作台上"),
    ("台", "织布机", "织布", "织工", "窗边"),
    ("台", "显微镜", "看极小的东西", "生物学家", "实验室里"),
    ("个", "风箱", "给炉火鼓风", "铁匠", "炉子旁边"),
];

fn tool(random: &mut Random) -> String {
    let (measure, tool, purpose, user, place) = random.pick(&TOOLS);
    match random.index(4) {
        0 => format!("{tool}是用来{purpose}的，{place}常常能看到，{user}离不开它。"),
        1 => format!("{place}的{user}要{purpose}，需要一{measure}{tool}。"),
        2 => format!("问：{tool}有什么用？\n答：{user}用它来{purpose}。"),
        _ => format!("看，{place}有一{measure}{tool}，有了它，{user}就可以{purpose}了。"),
    }
}
