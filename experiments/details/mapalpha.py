import sys,os; NAMES=sys.argv[1].split(","); BASE=sys.argv[2]; SIDE=int(sys.argv[3]); GRID=[tuple(map(float,g.split(":"))) for g in sys.argv[4].split(",")]; sys.argv=["x","import"]
exec(open("details/fuse2.py").read())
from featherface.models.backbone import Backbone
torch.set_num_threads(int(os.environ.get("NT",2)))
st=load_model("./featherface/weights/featherface.safetensors").eval(); st.head.forget_second_opinion()
if BASE!="-":
    st.backbone=Backbone(stage3_channels=(64,128)); st.load_state_dict(torch.load(BASE)); st.eval()
net=Fused(frozen_copy(st), load_model(TEACHER).backbone.stage1)
sds=[{k:v for k,v in torch.load(n+".pt")["net"].items() if not k.startswith("student.")} for n in NAMES]; sd=sds[0]
for k in sd:
    if sd[k].dtype.is_floating_point: sd[k]=sum(s[k] for s in sds)/len(sds)
net.load_state_dict(sd,strict=False); net.eval()
rest,dev=splits(); dev=dev[::2]; dl=cached(dev,"dev")
o=copy.deepcopy(net.path.out); c,b,l=net.c,net.b,net.l
def ml(u,v,t):
    m=copy.deepcopy(u)
    for k in ("weight","bias"): getattr(m,k).data=(t*getattr(u,k)+(1-t)*getattr(v,k)).data
    return m
for conv,a in GRID:
    net.path.out.weight.data=o.weight.data*a; net.path.out.bias.data=o.bias.data*a
    net.c,net.b,net.l=(ml(u,v[0],conv) for u,v in zip((c,b,l),(net.student.head.cls,net.student.head.box,net.student.head.landmark)))
    print(NAMES,BASE,SIDE,"conv",conv,"alpha",a,dev_eval(net,dl,dev,SIDE),flush=True)
